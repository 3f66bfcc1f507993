//! The state between two steps: parameters, masks, moments and the loop's own place in words.

use super::Trainer;
use crate::io::safetensors::File;
use crate::models::Network;
use crate::nn::StateDict;
use crate::runtime::buffer::copy;
use crate::ticket::{self, Storage};
use crate::{Error, Result};
use std::borrow::Cow;
use std::path::Path;

const EXP_AVG: &str = "exp_avg.";
const EXP_AVG_SQ: &str = "exp_avg_sq.";
const MOVEMENT: &str = "movement.";
const AVERAGE: &str = "average.";
/// Metadata keys.
const STEPS: &str = "optimizer_steps";
const PROGRESS: &str = "progress";
/// Beyond which there are numbers that float64, of which the bias corrections are, has not.
const MOST_STEPS: u64 = 1 << 53;

/// Writes a checkpoint. `progress` is kept as it is: where the loop stands.
///
/// # Errors
/// A weight that is not finite, with which nothing could go on; the file system's. What was at `path` is
/// still there then.
pub fn save(network: &Network, trainer: &Trainer, progress: &str, path: &Path) -> Result<()> {
    for (name, parameter) in network.parameters().iter() {
        let wrong = |values: &[f32]| values.iter().find(|value| !value.is_finite()).copied();
        if let Some(value) = parameter.read(wrong)? {
            let steps = trainer.optimizer().steps();
            let message = format!("{name} holds {value} after {steps} steps: nothing was saved");
            return Err(Error::Diverged(message));
        }
    }
    let (all, movement, average) = (network.parameters(), trainer.movement(), trainer.average());
    let [exp_avg, exp_avg_sq] = trainer.optimizer().moments(all)?.map(Some);
    let movement = movement.map(|movement| movement.scores(all)).transpose()?;
    let average = average
        .map(|average| average.state(all, network.masks()))
        .transpose()?
        .map(Cow::Owned);
    let states = [
        (EXP_AVG, exp_avg),
        (EXP_AVG_SQ, exp_avg_sq),
        (MOVEMENT, movement),
        (AVERAGE, average),
    ];
    let mut file = ticket::pack(network, Storage::Dense)?;
    for (prefix, state) in &states {
        for (name, values) in state.iter().flat_map(|state| state.iter()) {
            let (key, shape) = (format!("{prefix}{name}"), values.shape.clone());
            match network.masks().get(name) {
                // Pruned since the last step, which zeroes them.
                Some(mask) if [EXP_AVG, EXP_AVG_SQ].contains(prefix) => {
                    let mut moments = copy(&values.data);
                    mask.apply(&mut moments);
                    file.insert(key, shape, moments);
                }
                _ => file.insert(key, shape, &values.data[..]),
            }
        }
    }
    let steps = trainer.optimizer().steps().to_string();
    file.metadata.insert(STEPS.into(), steps);
    file.metadata.insert(PROGRESS.into(), progress.into());
    file.save(path)
}

/// Puts a checkpoint of the same network back and returns the progress that was saved with it.
///
/// # Errors
/// A file that cannot be read, is damaged or no checkpoint, or belongs to a network of other sizes.
/// Nothing is changed then.
pub fn load(network: &mut Network, trainer: &mut Trainer, path: &Path) -> Result<String> {
    let file = File::open(path)?;
    let wrong = |message: String| Error::format(path, message);
    let about = |key: &str| {
        let value = file.metadata.get(key);
        value.ok_or_else(|| wrong(format!("no checkpoint: no {key} in the metadata")))
    };
    let progress = about(PROGRESS)?.clone();
    let steps: u64 = about(STEPS)?
        .parse()
        .map_err(|error| wrong(format!("{STEPS}: {error}")))?;
    if steps >= MOST_STEPS {
        return Err(wrong(format!("{STEPS}: {steps} are too many")));
    }
    let saved = ticket::unpack(&file)?;
    if saved.architecture() != network.architecture() {
        return Err(wrong("the checkpoint of a network of other sizes".into()));
    }
    let state = |prefix: &str| {
        let mut state = StateDict::default();
        for (name, parameter) in network.parameters().iter() {
            let key = format!("{prefix}{name}");
            let values = file.floats(&key).map(|(_, values)| values.to_vec());
            let values = values.filter(|values| values.len() == parameter.count());
            let misshapen = || wrong(format!("{key} is missing or misshapen"));
            let values = values.ok_or_else(misshapen)?;
            let fine = |value: &f32| match prefix {
                EXP_AVG_SQ => *value >= 0.0,
                _ => value.is_finite(),
            };
            if let Some(bad) = values.iter().find(|value| !fine(value)) {
                return Err(wrong(format!("{key} holds {bad}")));
            }
            state.insert(name, parameter.shape().to_vec(), values);
        }
        Ok::<_, Error>(state)
    };
    let moments = [state(EXP_AVG)?, state(EXP_AVG_SQ)?];
    let movement = trainer.movement().map(|_| state(MOVEMENT)).transpose()?;
    let average = trainer.average().map(|_| state(AVERAGE)).transpose()?;
    let values = saved.parameters().state()?; // Whose memory may not be there.
    network.set_masks(saved.masks().clone())?;
    network.load(&values, true)?;
    let all = network.parameters();
    trainer.optimizer.resume(steps, all, moments)?;
    if let (Some(held), Some(saved)) = (&mut trainer.movement, movement) {
        held.resume(all, saved)?;
    }
    if let (Some(held), Some(saved)) = (&mut trainer.average, average) {
        held.resume(all, saved)?;
    }
    Ok(progress)
}
