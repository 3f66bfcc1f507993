//! Which weights go: the smallest magnitudes of all candidates, or of each tensor.

use super::contest::Contest;
use super::score::{kth_smallest, magnitude};
use super::{Alive, Masks, PruneOptions, Threshold, cuda, is_prunable};
use crate::kernels::Mask;
use crate::nn::{Parameter, Parameters};
use crate::{Error, Result};
use rayon::prelude::*;
use std::cmp::Ordering;

/// A parameter that may lose weights, by name.
pub type Candidate<'a> = (&'a str, Parameter<'a>);

/// Prunes: extends `masks` and zeroes the weights that go. `unused` names the parameters that no
/// forward uses. Nothing is changed on an error.
///
/// # Errors
/// Options out of range; a request that would leave no weight.
pub fn prune(
    all: &Parameters,
    masks: &mut Masks,
    options: &PruneOptions,
    unused: impl Fn(&str) -> bool,
) -> Result<()> {
    options.validate()?;
    let candidates: Vec<Candidate> = all
        .iter()
        .filter(|(name, _)| is_prunable(name) && (options.unused || !unused(name)))
        .collect();
    let names: Vec<&str> = candidates.iter().map(|(name, _)| *name).collect();
    let contests = Contest::all(&names, options);
    let pruned = match all.gpu() {
        Some(gpu) => cuda::select(gpu, &candidates, &contests, masks, options)?,
        None => select(&candidates, &contests, masks, options)?,
    };
    if pruned.iter().all(|mask| mask.alive() == 0) {
        return Err(Error::value(format!(
            "pruning {} of the weights would leave none",
            options.amount
        )));
    }
    for (name, mask) in names.into_iter().zip(pruned) {
        if mask.alive() < mask.len() {
            masks.insert(name, mask);
        }
    }
    masks.apply(all)
}

/// The masks of the candidates when the losers of `contests` are gone.
fn select(
    candidates: &[Candidate],
    contests: &[Contest],
    old: &Masks,
    options: &PruneOptions,
) -> Result<Vec<Mask>> {
    let scores = candidates
        .par_iter()
        .map(|(name, parameter)| scores(*parameter, options.alive, old.get(name)))
        .collect::<Result<Vec<_>>>()?;
    let mut masks = Vec::with_capacity(candidates.len());
    for contest in contests {
        let range = contest.candidates.clone();
        let Cut { score, mut ties } = cut(&scores[range.clone()], contest, options.threshold);
        for (name, parameter) in &candidates[range] {
            let old = old.get(name);
            masks.push(parameter.read(|weights| {
                Mask::from_fn(weights.len(), |i| {
                    if !is_alive(weights[i], i, options.alive, old) {
                        return false;
                    }
                    match magnitude(weights[i]).cmp(&score) {
                        Ordering::Less => false,
                        Ordering::Equal if ties > 0 => {
                            ties -= 1;
                            false
                        }
                        _ => true,
                    }
                })
            })?);
        }
    }
    Ok(masks)
}

fn is_alive(weight: f32, i: usize, alive: Alive, mask: Option<&Mask>) -> bool {
    match alive {
        Alive::NonZero => weight != 0.0,
        Alive::Mask => mask.is_none_or(|mask| mask.get(i)),
    }
}

/// The scores of the weights that are alive.
fn scores(parameter: Parameter, alive: Alive, mask: Option<&Mask>) -> Result<Vec<u32>> {
    parameter.read(|weights| {
        let living = weights.iter().enumerate();
        living
            .filter(|&(i, &weight)| is_alive(weight, i, alive, mask))
            .map(|(_, &weight)| magnitude(weight))
            .collect()
    })
}

/// Weights with a score below `score` go, and the first `ties` of those that equal it.
#[derive(Clone, Copy, Debug, Default)]
struct Cut {
    score: u32,
    ties: usize,
}

/// What ends the weights of a contest that go; nobody's end where none lives.
fn cut(scores: &[Vec<u32>], contest: &Contest, threshold: Threshold) -> Cut {
    let alive: usize = scores.iter().map(Vec::len).sum();
    let found = match threshold {
        Threshold::Percentile => {
            let percentile = contest.percentile(alive);
            kth_smallest(scores, percentile.low).map(|(low, high)| Cut {
                score: percentile.between(low, high.unwrap_or(low)),
                ties: 0,
            })
        }
        Threshold::Exact => {
            let count = contest.count(alive);
            let last = count.checked_sub(1);
            last.and_then(|last| kth_smallest(scores, last))
                .map(|(score, _)| {
                    let below = |list: &Vec<u32>| list.iter().filter(|&&s| s < score).count();
                    let ties = count - scores.par_iter().map(below).sum::<usize>();
                    Cut { score, ties }
                })
        }
    };
    found.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::Scope;
    use super::*;
    use crate::kernels::Precision;
    use crate::nn::{Builder, Init, StateDict};
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

    fn bits(all: &Parameters) -> Vec<Vec<u32>> {
        let bits = |w: &[f32]| w.iter().map(|w| w.to_bits()).collect();
        all.iter().map(|(_, p)| p.read(bits).unwrap()).collect()
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
                            threshold,
                            alive,
                            ..PruneOptions::new(amount, scope)
                        })
                })
        })
    }

    #[test]
    fn a_gpu_takes_the_same_weights() {
        let Ok(gpu) = Gpu::open() else { return };
        let unused = |name: &str| name.contains("unused");
        for amount in [0.01, 0.3, 0.9] {
            for mut options in every_choice(amount) {
                let on_cpu = parameters();
                let on_gpu = on_cpu.to(Some(&gpu)).unwrap();
                let (mut masks, mut masks_of_gpu) = (Masks::default(), Masks::default());
                for round in 0..4 {
                    // The last round goes on without what training does to weights.
                    if round < 3 {
                        fill(&on_cpu, round);
                        fill(&on_gpu, round);
                    }
                    options.unused = round % 2 == 1;
                    let done = prune(&on_cpu, &mut masks, &options, unused).is_ok();
                    let on_gpu_done = prune(&on_gpu, &mut masks_of_gpu, &options, unused).is_ok();
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
    fn a_gpu_refuses_to_leave_none() {
        let Ok(gpu) = Gpu::open() else { return };
        for options in every_choice(0.5) {
            let all = parameters().to(Some(&gpu)).unwrap();
            let mut masks = Masks::default();
            for (name, parameter) in all.iter() {
                parameter.write(|values| values.fill(0.0)).unwrap();
                masks.insert(name, Mask::from_fn(parameter.count(), |_| false));
            }
            let before = masks.clone();
            assert!(prune(&all, &mut masks, &options, |_| false).is_err());
            assert_eq!(masks, before);
        }
    }

    #[test]
    fn loaded_weights_lose_what_masks_leave_out_on_a_gpu() {
        let Ok(gpu) = Gpu::open() else { return };
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
