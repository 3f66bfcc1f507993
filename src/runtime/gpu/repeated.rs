//! Work that comes again and again: done once as it is, recorded the second time, replayed from then on.

use super::arena::Arena;
use super::{Gpu, Recording};
use crate::{Error, Result};
use std::sync::{Arc, OnceLock};

/// Set to 0, it keeps work from being recorded: to debug, and to time its parts. Set to 1, what cannot be
/// recorded is an error instead of being done as before.
const VARIABLE: &str = "MIRL_CUDA_GRAPHS";

/// Work on the same arrays, as long as `key` stays the same.
pub struct Repeated<K> {
    key: Option<K>,
    runs: usize,
    /// What the arrays took that the first run made.
    bytes: usize,
    recording: Option<Recording>,
}

impl<K> Default for Repeated<K> {
    fn default() -> Self {
        Self {
            key: None,
            runs: 0,
            bytes: 0,
            recording: None,
        }
    }
}

impl<K: PartialEq> Repeated<K> {
    /// Whether the work is still that of `key`. Otherwise all of it is forgotten, and arrays may change.
    pub fn goes_on(&mut self, key: K) -> bool {
        if self.key.as_ref() == Some(&key) {
            return true;
        }
        *self = Self {
            key: Some(key),
            ..Self::default()
        };
        false
    }

    /// Does the work. The first run is a warm-up: libraries load what they need, which cannot be recorded, and
    /// memory is measured.
    pub fn run(&mut self, gpu: &Arc<Gpu>, work: impl Fn() -> Result<()>) -> Result<()> {
        if let Some(recording) = &self.recording {
            return recording.replay();
        }
        self.runs += 1;
        if self.runs > 2 || says("0") {
            return work();
        }
        if self.runs == 1 {
            let arena = Arena::measure();
            let done = arena.during(work);
            self.bytes = arena.bytes();
            if done.is_err() {
                self.runs = 0; // What it measured may be a part.
            }
            return done;
        }
        let recording = Recording::of(gpu, self.bytes, &work);
        match recording.and_then(|recording| recording.replay().map(|()| recording)) {
            Ok(recording) => {
                self.recording = Some(recording);
                Ok(())
            }
            // It is done as before then; nothing has been done so far.
            Err(Error::Device(_)) if !says("1") => work(),
            Err(error) => {
                self.runs = 1;
                Err(error)
            }
        }
    }

    pub fn is_recorded(&self) -> bool {
        self.recording.is_some()
    }
}

fn says(value: &str) -> bool {
    static SAID: OnceLock<Option<String>> = OnceLock::new();
    SAID.get_or_init(|| std::env::var(VARIABLE).ok()).as_deref() == Some(value)
}
