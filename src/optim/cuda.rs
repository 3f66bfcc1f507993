//! AdamW on a GPU: one kernel over all variables.

use super::adamw::{Scalars, moved};
use crate::Result;
use crate::nn::{Parameters, Shadow};
use crate::ops::{Gradients, Tensor, Values};
use crate::runtime::gpu::{Array, DType, Gpu, arguments};
use std::iter;
use std::sync::Arc;

/// Values of a block of threads, as adamw.cu has it.
const CHUNK: usize = 8 * 256;

/// What the kernels read beside gradients and moments.
pub struct State {
    gpu: Arc<Gpu>,
    scalars: Array,
    /// The version of the parameters that the table is of.
    version: u64,
    table: Table,
}

/// Of each variable the addresses of p, g, m, v and the bits of its mask, first block and count.
struct Table {
    words: Array,
    /// The variable that each block is for.
    owners: Array,
    /// Held for the table.
    _bits: Vec<Option<Array>>,
    blocks: usize,
}

impl State {
    pub fn new(gpu: &Arc<Gpu>, all: &Parameters, moments: [&Shadow; 2]) -> Result<Self> {
        Ok(Self {
            gpu: gpu.clone(),
            scalars: Array::new(gpu, &[Scalars::COUNT])?,
            version: all.version(),
            table: Table::new(gpu, all, moments)?,
        })
    }

    /// What a step needs from the processor.
    pub fn prepare(
        &mut self,
        all: &Parameters,
        moments: [&Shadow; 2],
        scalars: Scalars,
    ) -> Result<()> {
        if self.version != all.version() {
            self.table = Table::new(&self.gpu, all, moments)?;
            self.version = all.version();
        }
        self.scalars.write(0, &scalars.all())
    }

    /// Writes the norm of the gradients beside the loss in `outcome`.
    pub fn norm(&self, all: &Parameters, gradients: &Gradients, outcome: &Array) -> Result<()> {
        let (gpu, table) = (&self.gpu, &self.table);
        let variables = all.variables();
        let of = |variable: Option<&Tensor>| match gradients.get(variable?) {
            Some(Values::Cuda(gradient)) => Some(gradient),
            _ => None,
        };
        for first in (0..variables.len()).step_by(8) {
            let [a, b, c, d, e, f, g, h] = std::array::from_fn(|i| of(variables.get(first + i)));
            let (words, count) = (&table.words, 8.min(variables.len() - first));
            let all = arguments![words, first, count, a, b, c, d, e, f, g, h];
            gpu.each(("adamw_gradients", DType::F32), 1, all)?;
        }
        let sums = Array::new(gpu, &[table.blocks, 2])?; // f64
        let each = arguments![&sums, &table.words, &table.owners];
        gpu.blocks(("gradient_squares", DType::F32), (table.blocks, 1), each)?;
        let norm = outcome.at(1);
        gpu.blocks(
            ("gradient_norm", DType::F32),
            (1, 1),
            arguments![norm, &sums, table.blocks],
        )
    }

    /// Takes a step by the gradients of [`Self::norm`], where loss and norm are finite.
    pub fn step(&self, outcome: &Array) -> Result<()> {
        let (gpu, table) = (&self.gpu, &self.table);
        let all = arguments![&table.words, &table.owners, &self.scalars, outcome];
        gpu.blocks(("adamw", DType::F32), (table.blocks, 1), all)
    }
}

impl Table {
    fn new(gpu: &Arc<Gpu>, all: &Parameters, moments: [&Shadow; 2]) -> Result<Self> {
        let [Shadow::Cuda(exp_avg), Shadow::Cuda(exp_avg_sq)] = moments else {
            return Err(moved());
        };
        let bits = all.variables().iter().map(|variable| {
            let mask = variable.mask().map(|sparsity| sparsity.mask().words());
            mask.map(|words| Array::from_words(gpu, words)).transpose()
        });
        let bits = bits.collect::<Result<Vec<_>>>()?;
        let (mut words, mut owners): (Vec<u64>, Vec<u32>) = (vec![], vec![]);
        for (i, variable) in all.variables().iter().enumerate() {
            let p = variable.values().cuda()?;
            let of = |array: &Array| array.address().number();
            let (m, v) = (of(&exp_avg[i]), of(&exp_avg_sq[i]));
            let no_gradient = 0;
            words.extend([of(p), no_gradient, m, v, bits[i].as_ref().map_or(0, of)]);
            words.extend([owners.len(), p.len()].map(|size| size as u64));
            owners.extend(iter::repeat_n(i as u32, p.len().div_ceil(CHUNK)));
        }
        Ok(Self {
            words: Array::from_words(gpu, &words)?,
            owners: Array::from_words(gpu, &owners)?,
            _bits: bits,
            blocks: owners.len(),
        })
    }
}
