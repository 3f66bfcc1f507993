//! The allocator of the whole library: the system's for small blocks, dlmalloc for large ones.
//!
//! A training step takes and frees the same large blocks again and again. The system's allocator
//! returns them, and every page that comes back costs a fault and a pass of zeroes; caches of sizes
//! hold half as much again as is ever in use. dlmalloc (Lea) fits blocks together and keeps its memory
//! until [`settle`] finds it far too much, or until a block larger than a segment does not fit in what
//! is idle.
//!
//! Whatever may be a tile begins with a cache line: a vector that lies across two takes two loads, and
//! sparse products do little else than load.

use super::lock::lock;
use dlmalloc::{Allocator, Dlmalloc};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[global_allocator]
static ALLOCATOR: Split = Split;

/// Bytes from which a block is large.
const LARGE: usize = 1 << 17;
/// Bytes from which a block may be a tile.
const MEDIUM: usize = 1 << 12;
/// The alignment of medium and large blocks: a cache line.
const ALIGN: usize = 64;
/// What the system is asked for at once: little of it is lost where two such segments meet.
const SEGMENT: usize = 1 << 26;
/// Small calls before memory goes back: between two large ones lie a few small ones.
const PATIENCE: usize = 32;
/// Segments that there may be.
const SEGMENTS: usize = 1024;
/// The alignment of a segment: a page.
const SEGMENT_ALIGN: usize = 4096;

struct Split;

static LARGE_BLOCKS: Mutex<Dlmalloc<Segments>> = Mutex::new(Dlmalloc::new_with_allocator(Segments));
static STARTS: [AtomicUsize; SEGMENTS] = [const { AtomicUsize::new(0) }; SEGMENTS];
static SIZES: [AtomicUsize; SEGMENTS] = [const { AtomicUsize::new(0) }; SEGMENTS];
/// Bytes of large blocks in use, and the most since [`settle`].
static USED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// Calls in a row that needed little.
static SMALL_CALLS: AtomicUsize = AtomicUsize::new(0);
static RELEASING: AtomicBool = AtomicBool::new(false);
static REFUSING: AtomicBool = AtomicBool::new(false);

/// To be called between long calls: where a number of them needed less than half of what is held,
/// gives back to the system the segments that no block lies in, all but the newest.
pub fn settle() {
    let used = USED.load(Ordering::Relaxed);
    let peak = PEAK.swap(used, Ordering::Relaxed);
    if held() <= 2 * peak + SEGMENT {
        SMALL_CALLS.store(0, Ordering::Relaxed);
    } else if SMALL_CALLS.fetch_add(1, Ordering::Relaxed) >= PATIENCE {
        release();
    }
}

/// The same at once: where memory has run out, whoever goes on needs some.
pub fn release() {
    give_back(&mut lock(&LARGE_BLOCKS));
}

fn give_back(blocks: &mut Dlmalloc<Segments>) {
    RELEASING.store(true, Ordering::Relaxed);
    // SAFETY: only segments without a block are given back.
    unsafe { blocks.trim(0) };
    RELEASING.store(false, Ordering::Relaxed);
}

/// Bytes of all segments.
fn held() -> usize {
    SIZES.iter().map(|size| size.load(Ordering::Relaxed)).sum()
}

/// A large block, or null. Large images have blocks of one size on one level and of another on the next:
/// where one does not fit in what is idle, though it is no larger, idle segments go back before there is
/// another.
fn large(size: usize) -> *mut u8 {
    let mut blocks = lock(&LARGE_BLOCKS);
    if size >= SEGMENT && held() >= USED.load(Ordering::Relaxed) + size {
        REFUSING.store(true, Ordering::Relaxed);
        // SAFETY: the alignment is a power of two.
        let block = unsafe { blocks.malloc(size, ALIGN) };
        REFUSING.store(false, Ordering::Relaxed);
        if !block.is_null() {
            return block;
        }
        give_back(&mut blocks);
    }
    // SAFETY: the alignment is a power of two.
    unsafe { blocks.malloc(size, ALIGN) }
}

/// The lock on all large blocks.
#[cfg(unix)]
pub(super) type Held = std::sync::MutexGuard<'static, Dlmalloc<Segments>>;

/// Keeps others from taking and freeing large blocks.
#[cfg(unix)]
pub(super) fn hold() -> Held {
    lock(&LARGE_BLOCKS)
}

/// Where dlmalloc's memory comes from.
pub(super) struct Segments;

impl Segments {
    /// Whether an address lies in a segment.
    fn contain(address: usize) -> bool {
        STARTS.iter().zip(&SIZES).any(|(start, size)| {
            let start = start.load(Ordering::Relaxed);
            start <= address && address < start + size.load(Ordering::Relaxed)
        })
    }
}

fn segment(size: usize) -> Option<Layout> {
    Layout::from_size_align(size, SEGMENT_ALIGN).ok()
}

// SAFETY: segments come from the system, of the size that is told, and go back whole.
unsafe impl Allocator for Segments {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        if REFUSING.load(Ordering::Relaxed) {
            return (std::ptr::null_mut(), 0, 0);
        }
        let size = size.next_multiple_of(SEGMENT);
        let free = STARTS.iter().position(|s| s.load(Ordering::Relaxed) == 0);
        let (Some(at), Some(layout)) = (free, segment(size)) else {
            return (std::ptr::null_mut(), 0, 0);
        };
        // SAFETY: the size is not 0.
        let start = unsafe { System.alloc(layout) };
        if !start.is_null() {
            SIZES[at].store(size, Ordering::Relaxed);
            STARTS[at].store(start as usize, Ordering::Relaxed);
        }
        (start, size, 0)
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        std::ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, start: *mut u8, size: usize) -> bool {
        let at = STARTS
            .iter()
            .position(|s| s.load(Ordering::Relaxed) == start as usize);
        let (true, Some(at), Some(layout)) = (RELEASING.load(Ordering::Relaxed), at, segment(size))
        else {
            return false;
        };
        if SIZES[at].load(Ordering::Relaxed) != size {
            return false;
        }
        SIZES[at].store(0, Ordering::Relaxed);
        STARTS[at].store(0, Ordering::Relaxed);
        // SAFETY: the segment came from the system with this layout.
        unsafe { System.dealloc(start, layout) };
        true
    }

    fn can_release_part(&self, _: u32) -> bool {
        RELEASING.load(Ordering::Relaxed)
    }

    fn allocates_zeros(&self) -> bool {
        false
    }

    fn page_size(&self) -> usize {
        SEGMENT_ALIGN
    }
}

fn is_large(layout: Layout) -> bool {
    layout.size() >= LARGE && layout.align() <= ALIGN
}

/// What the system is asked for.
fn system(layout: Layout) -> Layout {
    match layout.align_to(ALIGN) {
        Ok(aligned) if layout.size() >= MEDIUM => aligned,
        _ => layout,
    }
}

// SAFETY: both allocators give blocks of the size and at least the alignment asked for. A block goes
// back to the one whose memory it lies in.
unsafe impl GlobalAlloc for Split {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            let block = large(layout.size());
            if !block.is_null() {
                let used = USED.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
                PEAK.fetch_max(used, Ordering::Relaxed);
                return block;
            }
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(system(layout)) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_large(layout) && Segments::contain(block as usize) {
            USED.fetch_sub(layout.size(), Ordering::Relaxed);
            // SAFETY: the block lies in dlmalloc's memory and has this size.
            return unsafe { lock(&LARGE_BLOCKS).free(block, layout.size(), ALIGN) };
        }
        // SAFETY: as the caller promises; the layout is the one that the block was asked for with.
        unsafe { System.dealloc(block, system(layout)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_blocks_are_aligned_and_lie_in_segments() {
        for size in [LARGE, LARGE + 1, 3 * SEGMENT] {
            let values = vec![1u8; size];
            let address = values.as_ptr() as usize;
            assert!(address.is_multiple_of(ALIGN) && Segments::contain(address));
        }
        let medium = vec![1u8; LARGE - 1];
        let address = medium.as_ptr() as usize;
        assert!(address.is_multiple_of(ALIGN) && !Segments::contain(address));
    }

    #[test]
    fn idle_segments_go_back_before_there_are_larger_ones() {
        let parts: Vec<Vec<u8>> = (0..4).map(|_| Vec::with_capacity(2 * SEGMENT)).collect();
        let before = held();
        drop(parts);
        let whole: Vec<u8> = Vec::with_capacity(8 * SEGMENT);
        assert!(Segments::contain(whole.as_ptr() as usize));
        assert!(held() < before + 8 * SEGMENT);
    }

    #[test]
    fn zeroes_are_zeroes_again() {
        for _ in 0..3 {
            let mut values = vec![0.0f32; LARGE];
            assert!(values.iter().all(|&value| value == 0.0));
            values.fill(1.0);
        }
    }

    #[test]
    fn growing_keeps_the_values() {
        let mut values: Vec<u32> = Vec::new();
        for value in 0..1_000_000 {
            values.push(value);
        }
        assert!(
            (0..)
                .zip(&values)
                .all(|(expected, &value)| value == expected)
        );
    }

    /// Blocks of many threads keep what was written to them, also while segments go back.
    #[test]
    fn threads_do_not_meet() {
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                scope.spawn(move || {
                    for round in 0..100usize {
                        let size = LARGE + (round * 7919 + usize::from(thread)) % (8 * LARGE);
                        let values = vec![thread; size];
                        if round % 10 == 0 {
                            settle();
                        }
                        assert!(values.iter().all(|&value| value == thread));
                    }
                });
            }
        });
    }
}
