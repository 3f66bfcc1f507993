//! An image's strips in order, with the rows that their windows reach into: held since before, or
//! computed on the way and dropped again.

use super::expand::Expand;
use crate::kernels::Real;
use crate::ops::rows::{Grid, Rows, Stored, clear_borders, threads_of_image};
use crate::runtime::buffer::Buffer;
use crate::runtime::lock::lock;
use num_traits::Float;
use rayon::prelude::*;
use std::mem::{replace, take};
use std::ops::Range;
use std::sync::Mutex;

/// An image's strips in runs, one for each thread, which goes through its own in order. One that is done
/// takes over the second half of the longest that is left: threads are never equally fast, and more runs
/// would compute more rows twice, those between them.
///
/// A run is handed over with what `beside` says of its first strip: what belongs to the row above it, and to
/// its first row, which the run before needs.
pub struct Runs<H, F> {
    runs: Vec<Mutex<Run<H>>>,
    /// Strips that stay together.
    grain: usize,
    beside: F,
}

struct Run<H> {
    /// Strips that are not begun.
    left: Range<usize>,
    /// Whether a thread is at it.
    begun: bool,
    above: Option<H>,
    below: Option<H>,
}

/// The strips of a run, as long as they are not taken over.
pub struct Strips<'a, H>(&'a Mutex<Run<H>>);

impl<H: Send, F: Fn(usize) -> [H; 2] + Sync> Runs<H, F> {
    /// Runs of one of several images, for as many threads as it has of all; those of the others come to
    /// help. `grain` strips stay together.
    pub fn new(grid: Grid, images: usize, grain: usize, beside: F) -> Self {
        let strips = grid.strips();
        let threads = rayon::current_num_threads();
        let length = strips.div_ceil(threads_of_image(images));
        let length = length.next_multiple_of(grain).max(grain);
        let mut above = None;
        let runs: Vec<_> = (0..strips)
            .step_by(length)
            .map(|first| {
                let end = strips.min(first + length);
                let next = (end < strips).then(|| beside(end));
                let (next, below) =
                    next.map_or((None, None), |[above, below]| (Some(above), Some(below)));
                Mutex::new(Run {
                    left: first..end,
                    begun: false,
                    above: replace(&mut above, next),
                    below,
                })
            })
            .collect();
        let helpers = (runs.len()..threads).map(|_| {
            Mutex::new(Run {
                left: 0..0,
                begun: false,
                above: None,
                below: None,
            })
        });
        Self {
            runs: runs.into_iter().chain(helpers).collect(),
            grain,
            beside,
        }
    }

    /// Calls `work` with every run, those that are taken over included.
    pub fn each(&self, work: impl Fn(Strips<H>) + Sync) {
        self.runs.par_iter().for_each(|own| {
            lock(own).begun = true;
            loop {
                work(Strips(own));
                match self.take_over() {
                    Some(run) => *lock(own) = run,
                    None => break,
                }
            }
        });
    }

    fn take_over(&self) -> Option<Run<H>> {
        let longest = self.runs.iter().max_by_key(|run| lock(run).left.len())?;
        let mut run = lock(longest);
        if !run.begun {
            return (!run.left.is_empty()).then(|| Run {
                left: take(&mut run.left),
                begun: true,
                above: run.above.take(),
                below: run.below.take(),
            });
        }
        let middle = run.left.start + run.left.len().div_ceil(2);
        let middle = middle.next_multiple_of(self.grain);
        // The strip before the middle is not begun, so that it is as `beside` wants it.
        if middle <= run.left.start || middle >= run.left.end {
            return None;
        }
        let [above, below] = (self.beside)(middle);
        Some(Run {
            left: middle..replace(&mut run.left.end, middle),
            begun: true,
            above: Some(above),
            below: run.below.replace(below),
        })
    }
}

impl<H> Strips<'_, H> {
    /// The next one.
    pub fn next(&self) -> Option<usize> {
        lock(self.0).left.next()
    }

    /// What belongs to the row above the first strip, if there is any, and then to that below the last.
    pub fn beside(&self) -> Option<H> {
        let mut run = lock(self.0);
        run.above.take().or_else(|| run.below.take())
    }
}

/// Elements of projected rows that are worth holding: they stay in the last cache.
const HELD: usize = 1 << 21;
/// What each of many threads adds to that: some of the last cache comes with every core. Where rows are not
/// held, each thread computes two more, those beside its own, which the more there are the fewer are its own.
const HELD_BY_THREAD: usize = 1 << 19;

/// Whether the projected rows of some images, so wide, are better computed strip by strip than held.
pub fn streams(grid: Grid, images: usize, wide: usize) -> bool {
    let held = HELD.max(rayon::current_num_threads() * HELD_BY_THREAD);
    images * grid.h * grid.padded_row(wide) > held
}

/// The projected rows of all images, or nothing where they are better computed strip by strip.
pub fn held<T: Real, R: Stored<T>>(expand: &Expand<T>, x: &[T]) -> Buffer<R> {
    if streams(expand.grid, expand.images(x), expand.wide) {
        Buffer::new(0)
    } else {
        expand.project_all(x)
    }
}

/// Where a window's rows come from: computed before, or on the way.
#[derive(Clone, Copy)]
pub enum Source<'a, R> {
    Held(&'a [R]),
    Streamed,
}

impl<'a, R> Source<'a, R> {
    /// The rows of one image of several.
    pub fn of<T: Real>(expand: &Expand<T>, projected: &'a [R], image: usize) -> Self {
        if projected.is_empty() {
            Self::Streamed
        } else {
            Self::Held(expand.image(projected, image))
        }
    }
}

/// The last few padded rows of an image that were computed: row r at r modulo `held`.
pub struct Ring<R> {
    pub data: Buffer<R>,
    pub held: usize,
}

impl<R: Float> Ring<R> {
    /// Rows that are to be written, but for their borders.
    fn new<T: Real>(expand: &Expand<T>, held: usize) -> Self {
        let mut data = Buffer::new(held * expand.padded_row());
        clear_borders(expand.grid, expand.wide, &mut data);
        Self { data, held }
    }
}

/// An image's projected rows, which one task goes through in order: those that are computed on the way are
/// dropped again.
pub struct Projected<'a, T, R> {
    expand: &'a Expand<'a, T>,
    x: &'a [T],
    source: Source<'a, R>,
    ring: Ring<R>,
    /// The first row that was not computed yet.
    next: usize,
    zeros: Vec<R>,
    tiles: Vec<T>,
}

impl<'a, T: Real, R: Stored<T>> Projected<'a, T, R> {
    pub fn new(expand: &'a Expand<T>, x: &'a [T], source: Source<'a, R>) -> Self {
        // A strip and the rows beside it.
        let held = match source {
            Source::Held(_) => 0,
            Source::Streamed => expand.grid.strip + 2,
        };
        Self {
            expand,
            x,
            source,
            ring: Ring::new(expand, held),
            next: 0,
            zeros: expand.zeros(),
            tiles: Vec::new(),
        }
    }

    /// Some rows, of a strip at most, and those beside them.
    pub fn around(&mut self, range: &Range<usize>) -> Rows<'_, R> {
        let (expand, h) = (self.expand, self.expand.grid.h);
        if let Source::Held(data) = self.source {
            return expand.rows(data, h, &self.zeros);
        }
        let rows = self.next.max(range.start.saturating_sub(1))..h.min(range.end + 1);
        if !rows.is_empty() {
            let (x, ring) = (expand.rows_of_x(self.x, &rows), &mut self.ring);
            expand.project(rows.start, x, &mut ring.data, ring.held, &mut self.tiles);
            self.next = rows.end;
        }
        expand.rows(&self.ring.data, self.ring.held, &self.zeros)
    }
}

/// Calls `consume` with each of the strips that `next` gives, one after the other, and the rows around it,
/// which `produce` has computed: the rows of a strip, or of none the one row above or below all of them.
pub fn walk<T: Real, R: Stored<T>>(
    expand: &Expand<T>,
    mut next: impl FnMut() -> Option<usize>,
    mut produce: impl FnMut(Option<usize>, Range<usize>, &mut Ring<R>),
    mut consume: impl FnMut(usize, Rows<R>),
) {
    let grid = expand.grid;
    let Some(mut strip) = next() else {
        return;
    };
    // A strip, the row above it, and the strip below, of which one row is needed.
    let held = 2 * grid.strip + 1;
    let mut ring = Ring::new(expand, held);
    let zeros = expand.zeros();
    let first = grid.rows_of(strip);
    if first.start > 0 {
        produce(None, first.start - 1..first.start, &mut ring);
    }
    produce(Some(strip), first, &mut ring);
    loop {
        let following = next();
        let mut rows = grid.rows_of(strip + 1);
        if following.is_none() {
            rows.end = rows.end.min(rows.start + 1);
        }
        if rows.start < grid.h {
            produce(following, rows, &mut ring);
        }
        consume(strip, expand.rows(&ring.data, held, &zeros));
        match following {
            Some(following) => strip = following,
            None => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::with_threads;
    use crate::runtime::lock::unlocked;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Goes through the strips of an image with so many threads; `wait` is called with each strip and how many
    /// are done. What is beside a strip is its number. Returns the runs.
    fn runs(
        (h, images, grain): (usize, usize, usize),
        threads: usize,
        wait: impl Fn(usize, &AtomicUsize) + Sync,
    ) -> Vec<Vec<usize>> {
        let grid = Grid::new(h, 128);
        let (found, done) = (Mutex::new(vec![]), AtomicUsize::new(0));
        with_threads(threads, || {
            Runs::new(grid, images, grain, |strip| [strip, strip]).each(|strips| {
                let mut run = vec![];
                while let Some(strip) = strips.next() {
                    if run.is_empty() && strip > 0 {
                        assert_eq!(strips.beside(), Some(strip), "above");
                    }
                    run.push(strip);
                    wait(strip, &done);
                    done.fetch_add(1, Ordering::Relaxed);
                }
                if let Some(last) = run.last() {
                    let below = (last + 1 < grid.strips()).then_some(last + 1);
                    assert_eq!(strips.beside(), below, "below");
                    lock(&found).push(run);
                }
            });
        });
        let mut found = unlocked(found);
        found.sort();
        assert_eq!(found.concat(), (0..grid.strips()).collect::<Vec<_>>());
        assert!(found.iter().all(|run| run[0].is_multiple_of(grain)));
        found
    }

    #[test]
    fn every_strip_is_gone_through_once() {
        for size in [(1, 1, 1), (7, 1, 1), (100, 1, 7), (128, 3, 8), (128, 2, 1)] {
            for threads in [1, 2, 5, 40] {
                runs(size, threads, |_, _| ());
            }
        }
    }

    /// The first strip is not done before all that may be taken over are.
    #[test]
    fn who_is_done_helps() {
        let slow = |strip: usize, done: &AtomicUsize| {
            while strip == 0 && done.load(Ordering::Relaxed) < 62 {
                std::thread::yield_now();
            }
        };
        assert_eq!(runs((64, 1, 1), 2, slow)[0], [0, 1]);
        // Of two images, one thread each: this one's has the other's help.
        assert_eq!(runs((64, 2, 1), 2, slow)[0], [0, 1]);
    }
}
