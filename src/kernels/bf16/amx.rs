//! AMX_BF16: `tdpbf16ps` multiplies two registers of 16 lines of 64 bytes, 16×32 by 32×16 elements, and
//! adds to a third. Rust has no stable functions for it, hence the assembly.

use super::pairs::{BLOCK, GROUPS, Line, WIDTH};
use super::{Rounded, To};
use crate::kernels::tiles::{GROUP, TILE};
use std::arch::asm;

/// How registers are used: all eight whole (Intel's manual, volume 1, chapter 18: palette 1).
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

const WHOLE: Config = Config {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Where results go first that are no sixteen rows of four groups, or are rounded.
#[repr(C, align(64))]
struct Aside([[f32; TILE]; BLOCK]);

/// # Safety
/// [`crate::runtime::cpu::multiplies_tiles`], and the bounds are those of [`super::product`].
pub unsafe fn run(product: Rounded<f32>) {
    let (left, mut to) = (product.left, product.to);
    let steps = left.row();
    let mut pairs = Line::room(steps * WIDTH * GROUPS);
    let mut aside = Aside([[0.0; TILE]; BLOCK]);
    // SAFETY: the registers are this thread's, and nothing else uses them before they are released.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &WHOLE, options(nostack)) };
    for (tile, groups) in to.groups().chunks(GROUPS).enumerate() {
        // SAFETY: a processor with AMX has what it wants.
        unsafe { left.pair_tile(product.tiles, tile, &mut pairs) };
        for i in (0..left.m).step_by(BLOCK) {
            let a = &left.data[i * steps..][..BLOCK * steps];
            let rows = BLOCK.min(left.m - i);
            if let (To::Full { target, accumulate }, BLOCK, &[g0, g1, g2, g3]) =
                (&mut to, rows, groups)
            {
                let c = target.data[i * target.row..].as_mut_ptr();
                // SAFETY: sixteen rows of a and of the target's groups, which lie inside its slice; `pairs`
                // has sixteen rows for each of the steps.
                unsafe {
                    let places = [c.add(g0), c.add(g1), c.add(g2), c.add(g3)];
                    multiply(steps, a, &pairs, places, target.row, *accumulate);
                }
                continue;
            }
            let accumulate = to.fetch(i, groups, &mut aside.0[..rows]);
            // SAFETY: as above, with sixteen rows of four groups aside.
            unsafe {
                let c = aside.0.as_mut_ptr().cast::<f32>();
                let places = [0, 1, 2, 3].map(|g| c.add(g * GROUP));
                multiply(steps, a, &pairs, places, TILE, accumulate);
                to.put(i, groups, &aside.0[..rows]);
            }
        }
    }
    // SAFETY: as above.
    unsafe { asm!("tilerelease", options(nomem, nostack)) };
}

/// Sixteen rows of a by a tile of pairs, in so many steps of 32 elements.
///
/// # Safety
/// The registers are configured. Lines of a and pairs, sixteen rows of the former, suffice for the steps, and
/// sixteen rows of sixteen elements, `row` apart, lie at each of `c`.
#[inline]
unsafe fn multiply(
    steps: usize,
    a: &[Line],
    pairs: &[Line],
    c: [*mut f32; GROUPS],
    row: usize,
    accumulate: bool,
) {
    debug_assert!(steps > 0 && a.len() >= BLOCK * steps);
    debug_assert!(pairs.len() >= steps * WIDTH * GROUPS);
    macro_rules! multiply {
        ($first:literal) => {
            asm!(
                $first,
                "2:",
                "tileloadd tmm4, [{a} + {a_row}]",
                "tileloadd tmm5, [{b} + {b_row}]",
                "tdpbf16ps tmm0, tmm4, tmm5",
                "tileloadd tmm6, [{b} + {b_row} + 64]",
                "tdpbf16ps tmm1, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {b_row} + 128]",
                "tdpbf16ps tmm2, tmm4, tmm7",
                "tileloadd tmm5, [{b} + {b_row} + 192]",
                "tdpbf16ps tmm3, tmm4, tmm5",
                "add {a}, 64",
                "add {b}, 4096",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{c0} + {c_row}], tmm0",
                "tilestored [{c1} + {c_row}], tmm1",
                "tilestored [{c2} + {c_row}], tmm2",
                "tilestored [{c3} + {c_row}], tmm3",
                a = inout(reg) a.as_ptr() => _,
                a_row = in(reg) size_of::<Line>() * steps,
                b = inout(reg) pairs.as_ptr() => _,
                b_row = in(reg) size_of::<Line>() * GROUPS,
                steps = inout(reg) steps => _,
                c0 = in(reg) c[0],
                c1 = in(reg) c[1],
                c2 = in(reg) c[2],
                c3 = in(reg) c[3],
                c_row = in(reg) size_of::<f32>() * row,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            )
        };
    }
    // SAFETY: as the caller promises.
    unsafe {
        if accumulate {
            multiply!(
                "tileloadd tmm0, [{c0} + {c_row}]\n\
                 tileloadd tmm1, [{c1} + {c_row}]\n\
                 tileloadd tmm2, [{c2} + {c_row}]\n\
                 tileloadd tmm3, [{c3} + {c_row}]"
            );
        } else {
            multiply!("tilezero tmm0\ntilezero tmm1\ntilezero tmm2\ntilezero tmm3");
        }
    }
}
