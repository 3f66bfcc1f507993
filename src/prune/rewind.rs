//! Survivors back to the values of a snapshot.

use super::{Masks, RewindOptions};
use crate::Result;
use crate::nn::{Parameters, StateDict};

/// Sets the parameters that `options` selects to mask × snapshot.
///
/// # Errors
/// A snapshot of another network; nothing is changed then.
pub fn rewind(
    all: &Parameters,
    masks: &Masks,
    snapshot: &StateDict,
    options: &RewindOptions,
) -> Result<()> {
    let mut back = StateDict::default();
    for (name, parameter) in all.iter().filter(|(name, _)| options.rewinds(name)) {
        let Some(values) = snapshot.get(name) else {
            return Err(crate::Error::value(format!(
                "the snapshot holds no {name} (shape {:?})",
                parameter.shape()
            )));
        };
        back.insert(name, values.shape.clone(), values.data.clone());
    }
    all.load(&back, false)?;
    masks.apply(all)
}
