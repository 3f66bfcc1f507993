//! AdamW on a GPU: one kernel over all variables.

use super::adamw::{Moments, Scalars};
use crate::nn::Parameters;
use crate::ops::{Gradients, Values};
use crate::prune::Masks;
use crate::runtime::gpu::{Array, Gpu};
use crate::{Error, Result, arguments};
use std::sync::Arc;

/// Values of a block of threads, as adamw.cu has it.
const CHUNK: usize = 8 * 256;
/// Bits of a word of a mask there.
const WORD: usize = u32::BITS as usize;

/// The moments of every variable, and the bits of its mask.
pub struct State {
    gpu: Arc<Gpu>,
    exp_avg: Vec<Array>,
    exp_avg_sq: Vec<Array>,
    /// What `bits` were made of.
    masks: Masks,
    bits: Vec<Option<Array>>,
}

/// What the kernels read, in their order: addresses, first block and count of each variable.
struct Table {
    words: Array,
    variables: usize,
    blocks: usize,
}

impl State {
    pub fn new(gpu: &Arc<Gpu>, all: &Parameters) -> Result<Self> {
        let zeros = || -> Result<Vec<Array>> {
            let variables = all.variables().iter();
            variables.map(|v| Array::zeros(gpu, v.dims())).collect()
        };
        Ok(Self {
            gpu: gpu.clone(),
            exp_avg: zeros()?,
            exp_avg_sq: zeros()?,
            masks: Masks::default(),
            bits: vec![None; all.variables().len()],
        })
    }

    /// The moments of every parameter.
    pub fn moments(&self, all: &Parameters) -> Result<Vec<Moments>> {
        let all = all.iter().map(|(_, parameter)| {
            let (variable, range) = parameter.place();
            Ok(Moments {
                exp_avg: self.exp_avg[variable].read(range.clone())?,
                exp_avg_sq: self.exp_avg_sq[variable].read(range)?,
            })
        });
        all.collect()
    }

    pub fn resume(&mut self, all: &Parameters, moments: &[Moments]) -> Result<()> {
        for ((_, parameter), moments) in all.iter().zip(moments) {
            let (variable, range) = parameter.place();
            self.exp_avg[variable].write(range.start, &moments.exp_avg)?;
            self.exp_avg_sq[variable].write(range.start, &moments.exp_avg_sq)?;
        }
        Ok(())
    }

    pub fn gradient_norm(
        &mut self,
        all: &Parameters,
        masks: &Masks,
        gradients: &Gradients,
    ) -> Result<f64> {
        let table = self.table(all, masks, gradients)?;
        let (sums, norm) = (
            Array::new(&self.gpu, &[table.blocks, 2])?, // f64
            Array::new(&self.gpu, &[1])?,
        );
        let each = arguments![&sums, &table.words, table.variables];
        self.gpu
            .reduce("gradient_squares", (table.blocks, 1), each)?;
        let all = arguments![&norm, &sums, table.blocks];
        self.gpu.reduce("gradient_norm", (1, 1), all)?;
        Ok(f64::from(norm.to_vec()?[0]))
    }

    pub fn step(
        &mut self,
        all: &Parameters,
        masks: &Masks,
        gradients: &Gradients,
        s: Scalars,
    ) -> Result<()> {
        let table = self.table(all, masks, gradients)?;
        let arguments = arguments![
            &table.words,
            table.variables,
            s.decay,
            s.beta2,
            s.one_minus_beta1,
            s.one_minus_beta2,
            s.step_size,
            s.root_correction2,
            s.eps,
            s.gradient_scale,
        ];
        self.gpu.reduce("adamw", (table.blocks, 1), arguments)
    }

    /// Variables without a gradient are left out.
    fn table(&mut self, all: &Parameters, masks: &Masks, gradients: &Gradients) -> Result<Table> {
        self.upload(all, masks)?;
        let (mut words, mut blocks, mut variables) = (vec![], 0, 0);
        for (i, variable) in all.variables().iter().enumerate() {
            let (Values::Cuda(p), Some(g)) = (variable.values(), gradients.get(variable)) else {
                continue;
            };
            let Values::Cuda(g) = g else {
                return Err(Error::value("a gradient that left the GPU"));
            };
            let mask = self.bits[i]
                .as_ref()
                .map_or(0, |bits| bits.address().number());
            let of = |array: &Array| array.address().number();
            let addresses = [
                of(p),
                of(g),
                of(&self.exp_avg[i]),
                of(&self.exp_avg_sq[i]),
                mask,
            ];
            words.extend(addresses);
            words.extend([blocks, p.len()].map(|size| size as u64));
            blocks += p.len().div_ceil(CHUNK);
            variables += 1;
        }
        let words: Vec<u32> = words
            .into_iter()
            .flat_map(|word: u64| [word as u32, (word >> 32) as u32])
            .collect();
        Ok(Table {
            words: Array::from_words(&self.gpu, &words)?,
            variables,
            blocks,
        })
    }

    /// The bits of masks that are not those of the last call.
    fn upload(&mut self, all: &Parameters, masks: &Masks) -> Result<()> {
        if self.masks.is(masks) {
            return Ok(());
        }
        let mut bits: Vec<Option<Vec<u32>>> = vec![None; all.variables().len()];
        for (name, parameter) in all.iter() {
            let Some(mask) = masks.get(name) else {
                continue;
            };
            let (variable, range) = parameter.place();
            let whole = || {
                vec![
                    u32::MAX;
                    all.variables()[variable]
                        .dims()
                        .iter()
                        .product::<usize>()
                        .div_ceil(WORD)
                ]
            };
            let words = bits[variable].get_or_insert_with(whole);
            for dead in (0..mask.len()).filter(|&i| !mask.get(i)) {
                let at = range.start + dead;
                words[at / WORD] &= !(1 << (at % WORD));
            }
        }
        let upload = |words: Option<Vec<u32>>| {
            let array = words.map(|words| Array::from_words(&self.gpu, &words));
            array.transpose()
        };
        self.bits = bits.into_iter().map(upload).collect::<Result<_>>()?;
        self.masks = masks.clone();
        Ok(())
    }
}
