//! Pruning by the lottery-ticket recipe of MIR-L (Katraouras & Rafailidis, arXiv 2510.14463, algorithm 1)
//! and its relatives: which weights go, and how the rest is rewound.
//! This room knows named parameters, no network.

mod contest;
mod cuda;
mod mask;
mod options;
mod report;
mod rewind;
mod score;
mod select;
mod units;

pub use mask::Masks;
pub use options::{Alive, Granularity, PruneOptions, RewindOptions, Scope, Threshold, is_prunable};
pub use report::{LayerReport, PruneReport, report, units_of};
pub use rewind::rewind;
pub use select::prune;
