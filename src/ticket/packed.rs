//! What is alive: a pruned parameter holds its survivors only, in the order of its elements, and under
//! `mask.NAME` the code of its mask.

use super::{DAMAGED, MASK, rice};
use crate::io::safetensors::{File, Float, Floats, Tensors};
use crate::kernels::Mask;
use crate::models::{Architecture, Network};
use crate::prune::Masks;
use crate::runtime::buffer::copy;
use crate::{Error, Result};
use rayon::prelude::*;
use std::collections::HashSet;

pub const VERSION: &str = "2";

pub fn pack(network: &Network, float: Float, unused: bool) -> Result<Tensors<'static>> {
    let mut file = Tensors::default();
    let all = network.parameters().iter();
    for (name, parameter) in all.filter(|(name, _)| unused || !network.is_unused(name)) {
        let mask = network.masks().get(name);
        parameter.read(|values| match mask {
            None => {
                let shape = parameter.shape().to_vec();
                insert(&mut file, float, name, shape, copy(values))
            }
            Some(mask) => {
                let survivors = mask.survivors(values);
                file.insert_bytes(format!("{MASK}{name}"), rice::encode(mask));
                insert(&mut file, float, name, vec![survivors.len()], survivors)
            }
        })??;
    }
    Ok(file)
}

fn insert(
    file: &mut Tensors,
    float: Float,
    name: &str,
    shape: Vec<usize>,
    values: Vec<f32>,
) -> Result<()> {
    super::rounding::check(float, name, &values)?;
    file.insert_as(float, name, shape, values);
    Ok(())
}

/// A parameter in a file, whose sizes are checked.
struct Entry<'a> {
    name: String,
    len: usize,
    survivors: Option<Floats<'a>>,
    mask: Option<Mask>,
}

pub fn unpack(file: &File, architecture: Architecture) -> Result<Network> {
    if file.is_intact() != Some(true) {
        return Err(Error::value(DAMAGED));
    }
    // All sizes are compared before the memory of the network is asked for.
    let declared = architecture.declared()?;
    let entries = declared.parameters.into_par_iter().map(|(name, shape)| {
        let unused = declared.unused.contains(&name);
        entry(file, name, &shape, unused)
    });
    let entries: Vec<Entry> = entries.collect::<Result<_>>()?;
    let mut known = HashSet::new();
    for entry in &entries {
        known.insert(format!("{MASK}{}", entry.name));
        known.insert(entry.name.clone());
    }
    if let Some(name) = file.names().find(|name| !known.contains(name)) {
        return Err(Error::value(format!("{name} is no part of the network")));
    }
    let mut network = Network::new(architecture, None)?;
    entries
        .par_iter()
        .try_for_each(|entry| entry.put(&network))?;
    let mut masks = Masks::default();
    for entry in entries {
        if let Some(mask) = entry.mask {
            masks.insert(entry.name, mask);
        }
    }
    network.set_masks(masks)?;
    Ok(network)
}

fn entry<'a>(file: &'a File, name: String, shape: &[usize], unused: bool) -> Result<Entry<'a>> {
    let len = shape.iter().product();
    let code = file.bytes(&format!("{MASK}{name}"));
    let (found, survivors) = match file.floats(&name) {
        Some((found, survivors)) => (found, survivors),
        None if unused && code.is_none() => {
            let mask = Some(Mask::none(len));
            let survivors = None;
            return Ok(Entry {
                name,
                len,
                survivors,
                mask,
            });
        }
        None => return Err(Error::value(format!("{name} is missing"))),
    };
    let mask = match (code, found) {
        (Some(code), &[alive]) if alive <= len => {
            let mask = rice::decode(len, alive, code);
            Some(mask.map_err(|error| Error::value(format!("{name}: {error}")))?)
        }
        (None, found) if found == shape => None,
        _ => {
            let message =
                format!("{name}: shape {found:?} is neither {shape:?} nor its survivors'");
            return Err(Error::value(message));
        }
    };
    let survivors = Some(survivors);
    Ok(Entry {
        name,
        len,
        survivors,
        mask,
    })
}

impl Entry<'_> {
    /// Writes the values to the parameter, which is zero.
    fn put(&self, network: &Network) -> Result<()> {
        let (Some(survivors), Some(parameter)) =
            (self.survivors, network.parameters().get(&self.name))
        else {
            return Ok(());
        };
        let survivors = survivors.to_vec();
        if let Some(bad) = survivors.iter().find(|value| !value.is_finite()) {
            return Err(Error::value(format!("{} holds {bad}", self.name)));
        }
        parameter.write(|values| match &self.mask {
            None => values.copy_from_slice(&survivors),
            Some(mask) => {
                let mut survivors = survivors.iter();
                mask.ones(0, self.len, |i| {
                    values[i] = survivors.next().copied().unwrap_or(0.0);
                });
            }
        })
    }
}
