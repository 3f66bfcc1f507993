//! Work that is recorded once and done again as a whole: a GPU is asked once instead of a thousand
//! times.

use super::Gpu;
use super::arena::Arena;
#[cfg(feature = "gpu")]
use crate::Error;
use crate::Result;
use std::cell::Cell;
use std::sync::Arc;

thread_local! {
    /// Whether this thread records: what it asks for is then not done.
    static RECORDS: Cell<bool> = const { Cell::new(false) };
}

pub fn records() -> bool {
    RECORDS.get()
}

/// An error while this thread records.
#[cfg(feature = "gpu")]
pub fn not_recording() -> Result<()> {
    if !records() {
        return Ok(());
    }
    Err(Error::internal(
        "the processor's memory and allocations are out of reach while a GPU records",
    ))
}

/// What a backend has recorded.
pub trait Replay: Send {
    fn replay(&self) -> Result<()>;
}

/// A recording that goes on, and ends whatever comes, a panic included.
struct Begun<'a>(&'a Gpu);

impl<'a> Begun<'a> {
    fn new(gpu: &'a Gpu) -> Result<Self> {
        gpu.backend.begin()?;
        RECORDS.set(true);
        Ok(Self(gpu))
    }

    fn finish(self) -> Result<Box<dyn Replay>> {
        RECORDS.set(false);
        self.0.backend.finish()
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if RECORDS.replace(false) {
            // What was recorded is of no use.
            drop(self.0.backend.finish());
        }
    }
}

/// Work on arrays that stay where they are.
pub struct Recording {
    gpu: Arc<Gpu>,
    work: Box<dyn Replay>,
    /// The memory of what it makes meanwhile.
    _arena: Arc<Arena>,
}

impl Recording {
    /// Records all that `work` asks for, without doing it. Arrays that it makes take `bytes` at most, and
    /// hold anything afterwards; it must neither read nor write any from the processor.
    ///
    /// # Errors
    /// `work` fails or takes more memory, there is not as much, or the GPU cannot record it.
    pub fn of(gpu: &Arc<Gpu>, bytes: usize, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        gpu.with(|backend| backend.release())?;
        let arena = Arena::new(gpu, bytes)?;
        // No other thread may ask for anything meanwhile: it would be recorded, too.
        let _turn = gpu.recording_turn();
        let begun = Begun::new(gpu)?;
        arena.during(work)?;
        Ok(Self {
            gpu: gpu.clone(),
            work: begun.finish()?,
            _arena: arena,
        })
    }

    /// Does it.
    pub fn replay(&self) -> Result<()> {
        self.gpu.with(|_| self.work.replay())
    }
}

#[cfg(test)]
mod tests {
    use crate::Result;
    use crate::runtime::gpu::{Array, Gpu, Recording, Repeated, arguments};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Enough for an array.
    const BYTES: usize = 256;

    /// y = 2x by way of an array that comes and goes.
    fn double(y: &Array, x: &Array) -> Result<()> {
        let copy = x.copied()?;
        x.each("add", x.len(), arguments![y, x, &copy, x.len()])
    }

    #[test]
    #[cfg_attr(not(feature = "gpu"), ignore = "this build has no GPU")]
    fn a_recording_does_its_work_when_it_is_replayed() {
        let gpu = Gpu::open().unwrap();
        let x = Array::from_slice(&gpu, &[2], &[1.0, 2.0]).unwrap();
        let y = Array::zeros(&gpu, &[2]).unwrap();
        let recording = Recording::of(&gpu, BYTES, || double(&y, &x)).unwrap();
        assert_eq!(y.to_vec().unwrap(), [0.0, 0.0]);
        for factor in [1.0, 5.0] {
            x.write(0, &[factor, 2.0 * factor]).unwrap();
            recording.replay().unwrap();
            assert_eq!(y.to_vec().unwrap(), [2.0 * factor, 4.0 * factor]);
        }
    }

    #[test]
    #[cfg_attr(not(feature = "gpu"), ignore = "this build has no GPU")]
    fn the_processors_memory_is_out_of_reach_of_recordings() {
        let gpu = Gpu::open().unwrap();
        let x = Array::zeros(&gpu, &[2]).unwrap();
        assert!(Recording::of(&gpu, BYTES, || x.to_vec().map(drop)).is_err());
        // What failed is forgotten.
        assert_eq!(x.to_vec().unwrap(), [0.0, 0.0]);
        assert!(Recording::of(&gpu, BYTES, || x.like().map(drop)).is_ok());
        let panics = || Recording::of(&gpu, BYTES, || x.copy_from(0, &x.part(99, &[1])));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert_eq!(x.to_vec().unwrap(), [0.0, 0.0]);
    }

    #[test]
    #[cfg_attr(not(feature = "gpu"), ignore = "this build has no GPU")]
    fn recordings_have_memory_of_their_own() {
        let gpu = Gpu::open().unwrap();
        let x = Array::from_slice(&gpu, &[1], &[3.0]).unwrap();
        let y = x.like().unwrap();
        // One array after the other takes the same place, two at once do not fit.
        let twice = || double(&y, &x).and_then(|()| double(&y, &x));
        let recording = Recording::of(&gpu, BYTES, twice).unwrap();
        let fails = Recording::of(&gpu, BYTES, || x.copied().and_then(|_copy| double(&y, &x)));
        assert!(fails.is_err_and(|error| error.to_string().contains("more memory")));
        // What others take meanwhile lies elsewhere.
        let other = Array::from_slice(&gpu, &[1], &[7.0]).unwrap();
        recording.replay().unwrap();
        assert_eq!(
            (y.to_vec().unwrap()[0], other.to_vec().unwrap()[0]),
            (6.0, 7.0)
        );
    }

    #[test]
    #[cfg_attr(not(feature = "gpu"), ignore = "this build has no GPU")]
    fn repeated_work_is_forgotten_with_its_key() {
        let gpu = Gpu::open().unwrap();
        let mut repeated = Repeated::default();
        for key in [3.0, 4.0] {
            assert!(!repeated.goes_on(key));
            let x = Array::from_slice(&gpu, &[1], &[key as f32]).unwrap();
            let y = x.like().unwrap();
            for run in 0..4 {
                assert!(repeated.goes_on(key));
                assert_eq!(repeated.is_recorded(), run > 1);
                repeated.run(&gpu, || double(&y, &x)).unwrap();
                assert_eq!(y.to_vec().unwrap(), [2.0 * key as f32]);
            }
        }
    }
}
