//! What is alive, layer by layer.

use super::{Masks, is_prunable};
use crate::nn::Parameters;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerReport {
    pub name: String,
    pub alive: usize,
    pub total: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PruneReport {
    /// The prunable parameters, in the network's order.
    pub layers: Vec<LayerReport>,
    /// Values of all parameters, and those that no mask leaves out.
    pub total: usize,
    pub alive: usize,
}

/// Counts by mask. `counted` tells which prunable parameters are candidates.
pub fn report(all: &Parameters, masks: &Masks, counted: impl Fn(&str) -> bool) -> PruneReport {
    let alive = |name: &str, total| masks.get(name).map_or(total, |mask| mask.alive());
    let layers = all
        .iter()
        .filter(|(name, _)| is_prunable(name) && counted(name))
        .map(|(name, parameter)| LayerReport {
            name: name.to_owned(),
            alive: alive(name, parameter.count()),
            total: parameter.count(),
        })
        .collect();
    PruneReport {
        layers,
        total: all.count(),
        alive: all
            .iter()
            .map(|(name, parameter)| alive(name, parameter.count()))
            .sum(),
    }
}
