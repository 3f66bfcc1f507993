//! Training data: degradations, augmentation and the loader of patches.

mod augment;
mod degrade;
mod loader;
mod store;

pub use augment::Augment;
pub use degrade::Degradation;
pub use loader::{Batch, Batches, Degraded, Loader, LoaderConfig, Sample};
pub use store::{OnError, Source, Store};
