//! What is alive, layer by layer.

use super::Masks;
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
