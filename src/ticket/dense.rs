//! Every parameter under its name, and for each pruned one the bits of its mask under `mask.NAME`.

use super::{DAMAGED, MASK};
use crate::io::safetensors::{File, Tensors};
use crate::kernels::Mask;
use crate::models::{Architecture, Network};
use crate::nn::StateDict;
use crate::prune::Masks;
use crate::runtime::buffer::copy;
use crate::{Error, Result};

pub const VERSION: &str = "1";

pub fn pack(network: &Network) -> Result<Tensors<'static>> {
    let mut file = Tensors::default();
    for (name, parameter) in network.parameters().iter() {
        let values = parameter.read(copy)?;
        file.insert(name, parameter.shape().to_vec(), values);
        if let Some(mask) = network.masks().get(name) {
            file.insert_bytes(format!("{MASK}{name}"), mask.to_bytes());
        }
    }
    Ok(file)
}

pub fn unpack(file: &File, architecture: Architecture) -> Result<Network> {
    // Files of before there were checksums have none.
    if file.is_intact() == Some(false) {
        return Err(Error::value(DAMAGED));
    }
    // Sizes are compared before any memory is asked for.
    for (name, shape) in architecture.declared()?.parameters {
        match file.floats(&name) {
            Some((found, _)) if *found == shape => {}
            Some((found, _)) => {
                let message = format!("{name} has shape {found:?} instead of {shape:?}");
                return Err(Error::value(message));
            }
            None => return Err(Error::value(format!("{name} is missing"))),
        }
    }
    let mut network = Network::new(architecture, None)?;
    for name in file.names() {
        if let Some(masked) = name.strip_prefix(MASK) {
            network.parameters().require(masked)?;
        }
    }
    let (mut masks, mut state) = (Masks::default(), StateDict::default());
    for (name, parameter) in network.parameters().iter() {
        if let Some((shape, values)) = file.floats(name) {
            state.insert(name, shape.to_vec(), values.to_vec());
        }
        if let Some(bytes) = file.bytes(&format!("{MASK}{name}")) {
            let mask = Mask::from_bytes(parameter.count(), bytes);
            masks.insert(
                name,
                mask.map_err(|e| Error::value(format!("{name}: {e}")))?,
            );
        }
    }
    network.load(&state, true)?;
    network.set_masks(masks)?;
    Ok(network)
}
