//! Which weights go: those of the smallest scores, of all candidates or of each tensor.

use super::contest::Contest;
use super::score::{key, keys, kth_smallest, value};
use super::units::{self, Units};
use super::{Granularity, Masks, PruneOptions, Threshold, cuda};
use crate::kernels::Mask;
use crate::nn::{Parameter, Parameters, StateDict};
use crate::{Error, Result};
use rayon::prelude::*;

/// A parameter that may lose weights, by name.
pub type Candidate<'a> = (&'a str, Parameter<'a>);

/// Prunes: extends `masks` and zeroes the weights that go, of the parameters in `names` that have the
/// granularity. By `scores`, or else by magnitude. Where pruning goes on in steps, the amount is a share of the
/// units that there were when it began: `since` has as many for each name, as of [`super::units_of`], and goes
/// with an exact threshold. Nothing is changed on an error.
///
/// # Errors
/// Options out of range; a name that is no parameter; none that has the granularity; scores that do not
/// fit; a request that would leave no weight.
pub fn prune(
    all: &Parameters,
    masks: &mut Masks,
    names: &[String],
    scores: Option<&StateDict>,
    since: Option<&[usize]>,
    options: &PruneOptions,
) -> Result<()> {
    options.validate()?;
    if since.is_some_and(|counts| counts.len() != names.len()) {
        return Err(Error::value("since: a count for each name"));
    }
    if since.is_some() && options.threshold == Threshold::Percentile {
        return Err(Error::value("since goes with an exact threshold"));
    }
    let (mut candidates, mut before): (Vec<Candidate>, Vec<usize>) = (vec![], vec![]);
    for (at, name) in names.iter().enumerate() {
        let parameter = all.require(name)?;
        if options.granularity.divides(parameter.shape()) {
            candidates.push((name, parameter));
            before.extend(since.map(|counts| counts[at]));
        }
    }
    let since = since.map(|_| &before[..]);
    if candidates.is_empty() {
        return Err(Error::value("there is no parameter to prune"));
    }
    let pruned = match all.gpu() {
        Some(gpu) if scores.is_none() && options.is_plain() => {
            cuda::select(gpu, &candidates, masks, since, options)?
        }
        _ => select(&candidates, scores, masks, since, options)?,
    };
    if pruned.iter().all(|mask| mask.alive() == 0) {
        return Err(Error::value(format!(
            "pruning {} of the weights would leave none",
            options.amount
        )));
    }
    let mut new = masks.clone();
    for ((name, _), mask) in candidates.into_iter().zip(pruned) {
        if mask.alive() < mask.len() {
            new.insert(name, mask);
        }
    }
    new.apply(all)?;
    *masks = new;
    Ok(())
}

/// The masks of the candidates when those that have to go are gone.
fn select(
    candidates: &[Candidate],
    scores: Option<&StateDict>,
    old: &Masks,
    since: Option<&[usize]>,
    options: &PruneOptions,
) -> Result<Vec<Mask>> {
    let ranked = candidates
        .par_iter()
        .map(|candidate| {
            let (name, parameter) = candidate;
            let living = units::living(parameter, options.alive, old.get(name))?;
            Ok((keys(candidate, scores)?, living))
        })
        .collect::<Result<Vec<_>>>()?;
    let both = candidates.par_iter().zip(ranked);
    if let Granularity::Pattern { kept, of } = options.granularity {
        let left = both.map(|((_, parameter), (keys, living))| {
            units::pattern(parameter.shape(), &keys, &living, kept, of)
        });
        return Ok(left.collect());
    }
    let units: Vec<Units> = both
        .map(|((_, parameter), (keys, living))| {
            let (granularity, least) = (options.granularity, options.min_density);
            Units::new(parameter, keys, living, granularity, least)
        })
        .collect();
    let mut masks = Vec::with_capacity(candidates.len());
    for contest in Contest::all(candidates, |at| units[at].alive(), since, options) {
        let field = &units[contest.candidates.clone()];
        let Cut { key, mut ties } = cut(field, &contest, options.threshold);
        masks.extend(field.iter().map(|units| units.survivors(key, &mut ties)));
    }
    Ok(masks)
}

/// Units with a key below `key` go, and the first `ties` of those that equal it.
#[derive(Clone, Copy, Debug, Default)]
struct Cut {
    key: u32,
    ties: usize,
}

/// Up to where the units of a contest go; none go where none is alive.
fn cut(field: &[Units], contest: &Contest, threshold: Threshold) -> Cut {
    let alive: usize = field.iter().map(Units::alive).sum();
    // A percentile is taken over all living units, an exact number only over those that may go.
    let all = threshold == Threshold::Percentile;
    let lists: Vec<Vec<u32>> = field.par_iter().map(|units| units.keys(all)).collect();
    let found = match threshold {
        Threshold::Percentile => {
            let percentile = contest.percentile(alive);
            kth_smallest(&lists, percentile.low).map(|(low, high)| {
                let [low, high] = [low, high.unwrap_or(low)].map(value);
                Cut {
                    key: key(percentile.between(low, high)),
                    ties: 0,
                }
            })
        }
        Threshold::Exact => {
            let count = contest.count(alive);
            let count = count.min(lists.iter().map(Vec::len).sum());
            let last = count.checked_sub(1);
            last.and_then(|last| kth_smallest(&lists, last))
                .map(|(key, _)| {
                    let below = |list: &Vec<u32>| list.iter().filter(|&&k| k < key).count();
                    let ties = count - lists.par_iter().map(below).sum::<usize>();
                    Cut { key, ties }
                })
        }
    };
    found.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::{Alive, Scope, units_of};
    use super::*;
    use crate::kernels::Precision;
    use crate::nn::{Builder, Init};
    use crate::ops::Mode;
    use crate::runtime::gpu::Gpu;
    use crate::runtime::rng;
    use rand::RngExt;
    use std::cell::RefCell;

    /// Some alone, some together in a variable: smaller than a word, none of whole words but one, and
    /// one larger than what a block of a GPU's threads counts.
    fn parameters() -> Parameters {
        let parameters = RefCell::default();
        let root = Builder::new(&parameters, Some(1), Mode::Infer(Precision::Full));
        let ones = Init::Ones;
        let declared = [
            root.parameter("a.weight", &[5, 7], ones),
            root.parameters(&[
                ("b.weight", &[3], ones),
                ("b.bias", &[10], ones),
                ("c.weight", &[131], ones),
                ("unused.weight", &[1], ones),
                ("c.bias", &[1], ones),
                ("d.weight", &[128], ones),
            ]),
            root.parameter("e.weight", &[2, 9_001], ones),
            root.parameter("output.weight", &[65], ones),
        ];
        assert!(declared.iter().all(Result::is_ok));
        parameters.into_inner()
    }

    /// Full of ties and of zeros of both signs; the same bits for the same round.
    fn fill(all: &Parameters, round: u64) {
        for (name, parameter) in all.iter() {
            let mut stream = rng::stream(2, name, [round, 0]);
            let mut value = || match stream.random_range(0..10) {
                0..4 => stream.random_range(-6i8..6) as f32 / 3.0,
                4 => -0.0,
                5 => stream.random::<f32>() * f32::MIN_POSITIVE,
                _ => stream.random::<f32>() - 0.5,
            };
            parameter
                .write(|values| values.fill_with(&mut value))
                .unwrap();
        }
    }

    fn weights(all: &Parameters, unused: bool) -> Vec<String> {
        let names = all.iter().map(|(name, _)| name.to_owned());
        names
            .filter(|name| name.contains("weight") && (unused || !name.contains("unused")))
            .collect()
    }

    fn bits(all: &Parameters) -> Vec<Vec<u32>> {
        let bits = |w: &[f32]| w.iter().map(|w| w.to_bits()).collect();
        all.iter().map(|(_, p)| p.read(bits).unwrap()).collect()
    }

    fn counts(all: &Parameters, names: &[String]) -> Vec<usize> {
        let count = |name: &String| all.require(name).unwrap().count();
        names.iter().map(count).collect()
    }

    fn every_choice(amount: f64) -> impl Iterator<Item = PruneOptions> {
        let scopes = [Scope::Global, Scope::Layerwise].into_iter();
        scopes.flat_map(move |scope| {
            [Threshold::Percentile, Threshold::Exact]
                .into_iter()
                .flat_map(move |threshold| {
                    [Alive::NonZero, Alive::Mask]
                        .into_iter()
                        .map(move |alive| PruneOptions {
                            amount,
                            scope,
                            granularity: Granularity::Weights,
                            threshold,
                            alive,
                            output_rate: 0.5,
                            min_density: 0.0,
                        })
                })
        })
    }

    /// As many as asked for, neither all that are equal nor none.
    #[test]
    fn of_equal_weights_the_first_go() {
        let (all, mut masks) = (parameters(), Masks::default());
        let names = weights(&all, true);
        let exact = every_choice(0.3).find(|o| o.threshold == Threshold::Exact);
        prune(&all, &mut masks, &names, None, None, &exact.unwrap()).unwrap();
        let alive: Vec<bool> = names
            .iter()
            .flat_map(|name| {
                let (count, mask) = (all.require(name).unwrap().count(), masks.get(name));
                (0..count).map(move |i| mask.is_none_or(|mask| mask.get(i)))
            })
            .collect();
        let gone = (0.3 * alive.len() as f64).round_ties_even() as usize;
        assert!(
            alive
                .iter()
                .enumerate()
                .all(|(i, &alive)| alive == (i >= gone))
        );
    }

    /// However small the share that a step takes of a tensor.
    #[test]
    fn steps_come_to_what_one_would() {
        let all = parameters();
        fill(&all, 0);
        let names = weights(&all, true);
        let since = counts(&all, &names);
        let scopes = [
            Scope::Global,
            Scope::Layerwise,
            Scope::Uniform,
            Scope::ErdosRenyiKernel,
        ];
        for (scope, granularity) in scopes
            .iter()
            .flat_map(|&scope| [Granularity::Weights, Granularity::Channels].map(|g| (scope, g)))
        {
            let options = |amount: f64| PruneOptions {
                amount,
                scope,
                granularity,
                threshold: Threshold::Exact,
                alive: Alive::Mask,
                output_rate: 0.5,
                min_density: 0.0,
            };
            let units =
                |masks: &Masks| units_of(&all, masks, &names, granularity, Alive::Mask).unwrap();
            let since = match granularity {
                Granularity::Weights => since.clone(),
                _ => units(&Masks::default()).iter().map(|of| of.1).collect(),
            };
            let [mut at_once, mut step_by_step] = [Masks::default(), Masks::default()];
            prune(&all, &mut at_once, &names, None, None, &options(0.4)).unwrap();
            for step in 1..=50 {
                let amount = 1.0 - 0.6f64.powf(step as f64 / 50.0);
                let masks = &mut step_by_step;
                prune(&all, masks, &names, None, Some(&since), &options(amount)).unwrap();
            }
            let of_all = |masks| units(masks).iter().map(|of| of.0).sum::<usize>();
            assert_eq!(of_all(&step_by_step), of_all(&at_once), "{scope:?}");
            if scope != Scope::Global {
                assert_eq!(units(&step_by_step), units(&at_once), "{scope:?}");
            }
            // What there is less of already stays.
            let before = step_by_step.clone();
            prune(
                &all,
                &mut step_by_step,
                &names,
                None,
                Some(&since),
                &options(0.1),
            )
            .unwrap();
            assert_eq!(step_by_step, before);
        }
    }

    #[test]
    #[cfg_attr(not(feature = "gpu"), ignore = "this build has no GPU")]
    fn a_gpu_takes_the_same_weights() {
        let gpu = Gpu::open().unwrap();
        for amount in [0.01, 0.3, 0.9] {
            for options in every_choice(amount) {
                let on_cpu = parameters();
                let on_gpu = on_cpu.to(Some(&gpu)).unwrap();
                let (mut masks, mut masks_of_gpu) = (Masks::default(), Masks::default());
                for round in 0..4 {
                    // The last round goes on without what training does to weights.
                    if round < 3 {
                        fill(&on_cpu, round);
                        fill(&on_gpu, round);
                    }
                    let names = weights(&on_cpu, round % 2 == 1);
                    let exact = options.threshold == Threshold::Exact;
                    let since = (exact && round == 3).then(|| counts(&on_cpu, &names));
                    let run = |all: &Parameters, masks: &mut Masks| {
                        prune(all, masks, &names, None, since.as_deref(), &options).is_ok()
                    };
                    let done = run(&on_cpu, &mut masks);
                    let on_gpu_done = run(&on_gpu, &mut masks_of_gpu);
                    assert_eq!(done, on_gpu_done, "{options:?}, round {round}");
                    assert_eq!(masks, masks_of_gpu, "{options:?}, round {round}");
                    assert_eq!(bits(&on_cpu), bits(&on_gpu), "{options:?}, round {round}");
                }
                // A small share may lie within the ties at zero.
                assert!(amount < 0.1 || !masks.is_empty());
            }
        }
    }

    #[test]
    #[cfg_attr(not(feature = "gpu"), ignore = "this build has no GPU")]
    fn a_gpu_refuses_to_leave_none() {
        let gpu = Gpu::open().unwrap();
        for options in every_choice(0.5) {
            let all = parameters().to(Some(&gpu)).unwrap();
            let mut masks = Masks::default();
            for (name, parameter) in all.iter() {
                parameter.write(|values| values.fill(0.0)).unwrap();
                masks.insert(name, Mask::from_fn(parameter.count(), |_| false));
            }
            let before = masks.clone();
            let names = weights(&all, true);
            assert!(prune(&all, &mut masks, &names, None, None, &options).is_err());
            assert_eq!(masks, before);
        }
    }

    #[test]
    #[cfg_attr(not(feature = "gpu"), ignore = "this build has no GPU")]
    fn loaded_weights_lose_what_masks_leave_out_on_a_gpu() {
        let gpu = Gpu::open().unwrap();
        let all = parameters().to(Some(&gpu)).unwrap();
        let mut masks = Masks::default();
        masks.insert("c.weight", Mask::from_fn(131, |i| i % 3 == 0));
        let mut expected: StateDict = all.state().unwrap();
        let mut data = expected.get("c.weight").unwrap().data.clone();
        masks.get("c.weight").unwrap().apply(&mut data);
        expected.insert("c.weight", vec![131], data);
        masks.apply(&all).unwrap();
        assert_eq!(all.state().unwrap(), expected);
    }
}
