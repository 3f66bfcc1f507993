//! Values rounded to the types that files store.

use crate::io::safetensors::Float;
use crate::models::Network;
use crate::{Error, Result};

/// A copy on the processor whose values are rounded.
///
/// # Errors
/// A value that the type has not.
pub fn rounded(network: &Network, float: Float) -> Result<Network> {
    let copied = network.to(None)?;
    for (name, parameter) in copied.parameters().iter() {
        parameter.write(|values| {
            check(float, name, values)?;
            values
                .iter_mut()
                .for_each(|value| *value = float.round(*value));
            Ok::<_, Error>(())
        })??;
    }
    Ok(copied)
}

/// # Errors
/// A value that the type has not.
pub(super) fn check(float: Float, name: &str, values: &[f32]) -> Result<()> {
    let large = values
        .iter()
        .find(|&&value| !float.round(value).is_finite());
    large.map_or(Ok(()), |large| {
        let dtype = float.name();
        let message = format!("{name} holds {large}, which {dtype} has not");
        Err(Error::value(message))
    })
}
