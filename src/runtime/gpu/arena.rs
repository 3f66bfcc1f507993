//! Memory that a recording hands out itself: what is replayed are kernels and copies then, no allocations.

use super::{Array, Gpu};
use crate::runtime::lock::lock;
use crate::{Error, Result};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Addresses are multiples of as many bytes, as the driver's are.
const ALIGNED: usize = 256;

thread_local! {
    /// Where this thread's arrays come from, unless from the driver.
    static ARENA: RefCell<Option<Arc<Arena>>> = const { RefCell::new(None) };
}

/// A block of memory for arrays that come and go, or the measure of how large it has to be.
#[derive(Debug)]
pub struct Arena {
    /// Of f32 elements.
    block: Option<Array>,
    places: Mutex<Places>,
}

/// A part of an arena, from a byte on.
#[derive(Debug)]
pub struct Place {
    arena: Arc<Arena>,
    first: usize,
    bytes: usize,
}

impl Arena {
    /// Arrays come from the driver; what they would take of a block is measured.
    pub fn measure() -> Arc<Self> {
        Arc::new(Self {
            block: None,
            places: Mutex::default(),
        })
    }

    pub fn new(gpu: &Arc<Gpu>, bytes: usize) -> Result<Arc<Self>> {
        let block = Array::new(gpu, &[bytes.div_ceil(size_of::<f32>())])?;
        Ok(Arc::new(Self {
            block: Some(block),
            places: Mutex::default(),
        }))
    }

    /// Bytes from the first to the last that was ever taken.
    pub fn bytes(&self) -> usize {
        lock(&self.places).end
    }

    /// Does work whose arrays are of this arena.
    pub fn during<R>(self: &Arc<Self>, work: impl FnOnce() -> R) -> R {
        within(Some(self.clone()), work)
    }

    /// Does work whose arrays stay, beside the arena that may be there.
    pub fn aside<R>(work: impl FnOnce() -> R) -> R {
        within(None, work)
    }

    /// A place in the arena of this thread, where there is one.
    pub fn take(bytes: usize) -> Result<Option<Place>> {
        let Some(arena) = ARENA.with_borrow(Clone::clone) else {
            return Ok(None);
        };
        let bytes = bytes.max(1).next_multiple_of(ALIGNED);
        let mut places = lock(&arena.places);
        let first = places.take(bytes);
        let room = arena
            .block
            .as_ref()
            .map(|block| block.len() * size_of::<f32>());
        if room.is_some_and(|room| places.end > room) {
            return Err(Error::Device(
                "a recording takes more memory than the work did before".into(),
            ));
        }
        drop(places);
        Ok(Some(Place {
            arena,
            first,
            bytes,
        }))
    }
}

/// Does work in an arena, or none, and comes back to the one before, whatever happens.
fn within<R>(arena: Option<Arc<Arena>>, work: impl FnOnce() -> R) -> R {
    struct Back(Option<Arc<Arena>>);
    impl Drop for Back {
        fn drop(&mut self) {
            ARENA.set(self.0.take());
        }
    }
    let _back = Back(ARENA.replace(arena));
    work()
}

impl Place {
    /// Where it lies, unless the arena only measures.
    pub fn address(&self) -> Option<u64> {
        let block = self.arena.block.as_ref()?;
        Some(block.address().number() + self.first as u64)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.arena.places).give(self.first, self.bytes);
    }
}

/// What is free of a block, which ends where it has to.
#[derive(Debug, Default)]
struct Places {
    /// Bytes of the gaps, by their first one. None touches another.
    gaps: BTreeMap<usize, usize>,
    end: usize,
}

impl Places {
    /// The smallest gap that is large enough, or the end.
    fn take(&mut self, bytes: usize) -> usize {
        let fits = self.gaps.iter().filter(|(_, size)| **size >= bytes);
        if let Some((&first, &size)) = fits.min_by_key(|(_, size)| **size) {
            self.gaps.remove(&first);
            if size > bytes {
                self.gaps.insert(first + bytes, size - bytes);
            }
            return first;
        }
        let last = self.gaps.last_entry();
        let last = last.filter(|gap| gap.key() + gap.get() == self.end);
        let first = last.map_or(self.end, |gap| gap.remove_entry().0);
        self.end = first + bytes;
        first
    }

    fn give(&mut self, mut first: usize, mut bytes: usize) {
        if let Some((&before, &size)) = self.gaps.range(..first).next_back()
            && before + size == first
        {
            (first, bytes) = (before, size + bytes);
        }
        if let Some(after) = self.gaps.remove(&(first + bytes)) {
            bytes += after;
        }
        self.gaps.insert(first, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever comes and goes, no two places meet, and all that was given is free again.
    #[test]
    fn places_do_not_meet() {
        let mut places = Places::default();
        let mut held: Vec<(usize, usize)> = vec![];
        let mut state = 1u64;
        for _ in 0..5000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let (number, bytes) = ((state >> 33) as usize, 1 + (state >> 40) as usize % 100);
            if number.is_multiple_of(2) || held.is_empty() {
                let first = places.take(bytes);
                let apart =
                    |&(from, size): &(usize, usize)| first >= from + size || from >= first + bytes;
                assert!(held.iter().all(apart));
                assert!(first + bytes <= places.end);
                held.push((first, bytes));
            } else {
                let (first, bytes) = held.swap_remove(number % held.len());
                places.give(first, bytes);
            }
            let gaps: usize = places.gaps.values().sum();
            assert_eq!(
                gaps + held.iter().map(|(_, bytes)| bytes).sum::<usize>(),
                places.end
            );
        }
        held.drain(..)
            .for_each(|(first, bytes)| places.give(first, bytes));
        assert_eq!(places.gaps, BTreeMap::from([(0, places.end)]));
        // A gap at the end grows instead of being passed over.
        let end = places.end;
        assert_eq!((places.take(end + 5), places.end), (0, end + 5));
    }

    #[test]
    fn gaps_are_used_again() {
        let mut places = Places::default();
        let [a, b, c] = [30, 10, 20].map(|bytes| places.take(bytes));
        assert_eq!((a, b, c), (0, 30, 40));
        places.give(a, 30);
        places.give(c, 20);
        assert_eq!(places.take(15), 40); // the smaller gap
        assert_eq!(places.take(30), 0);
        assert_eq!(places.end, 60);
    }
}
