//! What is asked of pruning, by name, and what it tells.

use super::choice::one_of;
use crate::Result;
use crate::prune::{Alive, Granularity, PruneReport, Scope, Threshold};

/// What is alive: (name, alive, total) of each prunable parameter, then alive and total of all.
pub type Report = (Vec<(String, usize, usize)>, usize, usize);

pub fn counts(report: PruneReport) -> Report {
    let layers = report.layers.into_iter();
    let layers = layers.map(|layer| (layer.name, layer.alive, layer.total));
    (layers.collect(), report.alive, report.total)
}

pub fn scope_of(name: &str) -> Result<Scope> {
    let choices = [
        ("global", Scope::Global),
        ("layerwise", Scope::Layerwise),
        ("uniform", Scope::Uniform),
        ("erk", Scope::ErdosRenyiKernel),
    ];
    one_of("scope", name, choices)
}

/// `kept` and `of` are N and M of a "pattern".
pub fn granularity_of(name: &str, (kept, of): (usize, usize)) -> Result<Granularity> {
    let choices = [
        ("weights", Granularity::Weights),
        ("channels", Granularity::Channels),
        ("pattern", Granularity::Pattern { kept, of }),
    ];
    one_of("granularity", name, choices)
}

pub fn threshold_of(name: &str) -> Result<Threshold> {
    let choices = [
        ("exact", Threshold::Exact),
        ("percentile", Threshold::Percentile),
    ];
    one_of("threshold", name, choices)
}

pub fn alive_of(name: &str) -> Result<Alive> {
    one_of(
        "alive",
        name,
        [("mask", Alive::Mask), ("nonzero", Alive::NonZero)],
    )
}
