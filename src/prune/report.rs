//! What is alive, layer by layer.

use super::{Alive, Granularity, Masks, units};
use crate::Result;
use crate::nn::Parameters;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerReport {
    pub name: String,
    pub alive: usize,
    pub total: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PruneReport {
    /// The parameters that were asked for.
    pub layers: Vec<LayerReport>,
    /// Values of all parameters, and those that no mask leaves out.
    pub total: usize,
    pub alive: usize,
}

/// How many units of each parameter are alive, and how many there are; none where it has not the granularity.
///
/// # Errors
/// A name that is no parameter.
pub fn units_of(
    all: &Parameters,
    masks: &Masks,
    names: &[String],
    granularity: Granularity,
    alive: Alive,
) -> Result<Vec<(usize, usize)>> {
    let count = |name: &String| {
        let parameter = all.require(name)?;
        if !granularity.divides(parameter.shape()) {
            return Ok((0, 0));
        }
        units::count(&parameter, granularity, alive, masks.get(name))
    };
    names.iter().map(count).collect()
}

/// Counts by mask, of the parameters in `names`.
///
/// # Errors
/// A name that is no parameter.
pub fn report(all: &Parameters, masks: &Masks, names: &[String]) -> Result<PruneReport> {
    let alive = |name: &str, total| masks.get(name).map_or(total, |mask| mask.alive());
    let layer = |name: &String| {
        let total = all.require(name)?.count();
        Ok(LayerReport {
            name: name.to_owned(),
            alive: alive(name, total),
            total,
        })
    };
    Ok(PruneReport {
        layers: names.iter().map(layer).collect::<Result<_>>()?,
        total: all.count(),
        alive: all
            .iter()
            .map(|(name, parameter)| alive(name, parameter.count()))
            .sum(),
    })
}
