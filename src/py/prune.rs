//! What is asked of pruning, by name, and what it tells.

use super::choice::one_of;
use crate::Result;
use crate::prune::{Alive, Granularity, PruneOptions, PruneReport, Scope, Threshold};

/// What is alive: (name, alive, total) of each prunable parameter, then alive and total of all.
pub type Report = (Vec<(String, usize, usize)>, usize, usize);

pub fn counts(report: PruneReport) -> Report {
    let layers = report.layers.into_iter();
    let layers = layers.map(|layer| (layer.name, layer.alive, layer.total));
    (layers.collect(), report.alive, report.total)
}

/// `kept` and `of` are N and M of granularity "pattern".
pub fn options(
    (amount, output_rate, min_density): (f64, f64, f64),
    (granularity, (kept, of)): (&str, (usize, usize)),
    (scope, threshold, alive): (&str, &str, &str),
) -> Result<PruneOptions> {
    let scopes = [
        ("global", Scope::Global),
        ("layerwise", Scope::Layerwise),
        ("uniform", Scope::Uniform),
        ("erk", Scope::ErdosRenyiKernel),
    ];
    let granularities = [
        ("weights", Granularity::Weights),
        ("channels", Granularity::Channels),
        ("pattern", Granularity::Pattern { kept, of }),
    ];
    let thresholds = [
        ("exact", Threshold::Exact),
        ("percentile", Threshold::Percentile),
    ];
    let lives = [("mask", Alive::Mask), ("nonzero", Alive::NonZero)];
    Ok(PruneOptions {
        amount,
        scope: one_of("scope", scope, scopes)?,
        granularity: one_of("granularity", granularity, granularities)?,
        threshold: one_of("threshold", threshold, thresholds)?,
        alive: one_of("alive", alive, lives)?,
        output_rate,
        min_density,
    })
}
