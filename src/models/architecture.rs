//! Which network, and of what sizes: the one list of all that there are.

use super::dynet::{DyNet, DyNetConfig};
use super::forward::Forward;
use super::promptir::{PromptIr, PromptIrConfig};
use super::restormer::{Restormer, RestormerConfig};
use super::symunet::{SymUNet, SymUNetConfig};
use crate::nn::{Builder, StateDict};
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::collections::HashSet;

/// Makes the enum, and all that goes network by network.
macro_rules! architectures {
    ($($name:literal: $network:ident, $config:ident;)*) => {
        #[derive(Clone, Debug, PartialEq)]
        pub enum Architecture {
            $($network($config),)*
        }

        impl Architecture {
            const ALL: &[Infer] = &[$(|state| $config::infer(state).map(Self::$network),)*];

            /// As in papers, in files and in Python.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$network(_) => $name,)*
                }
            }

            /// # Errors
            /// An unknown name, or sizes that are none of that network's.
            pub fn from_json(name: &str, sizes: &str) -> Result<Self> {
                match name {
                    $($name => parse(sizes).map(Self::$network),)*
                    _ => Err(Error::value(format!("network {name:?} is not known to this mirl"))),
                }
            }

            /// The sizes.
            pub fn to_json(&self) -> Result<String> {
                let sizes = match self {
                    $(Self::$network(sizes) => serde_json::to_string(sizes),)*
                };
                sizes.map_err(|error| Error::value(error.to_string()))
            }

            /// The most channels that images have at full resolution between two layers: what memory
            /// follows from.
            pub fn channels(&self) -> usize {
                match self {
                    $(Self::$network(sizes) => sizes.channels(),)*
                }
            }

            pub(super) fn build(&self, b: &Builder) -> Result<Box<dyn Forward>> {
                Ok(match self {
                    $(Self::$network(sizes) => Box::new($network::new(sizes, b)?),)*
                })
            }
        }
    };
}

// Where a state dict fits several equally well, it is taken for the first.
architectures! {
    "PromptIR": PromptIr, PromptIrConfig;
    "Restormer": Restormer, RestormerConfig;
    "DyNet": DyNet, DyNetConfig;
    "SymUNet": SymUNet, SymUNetConfig;
}

/// Makes one of the sizes that a state dict has.
type Infer = fn(&StateDict) -> Result<Architecture>;

/// The parameters of a network that is not there yet.
pub struct Declared {
    /// Names and shapes, in order.
    pub parameters: Vec<(String, Vec<usize>)>,
    /// Those that the forward never uses.
    pub unused: HashSet<String>,
}

impl Architecture {
    /// The network that a state dict, whole or in part, belongs to: the one with the most of its
    /// parameters.
    ///
    /// # Errors
    /// Names or shapes that are those of none.
    pub fn infer(state: &StateDict) -> Result<Self> {
        let (mut best, mut wrong) = (None, vec![]);
        for infer in Self::ALL {
            let fitting = infer(state).and_then(|found| Ok((found.shared(state)?, found)));
            match fitting {
                Err(error) => wrong.push(error.to_string()),
                Ok((shared, found)) => {
                    if best.as_ref().is_none_or(|(most, _)| shared > *most) {
                        best = Some((shared, found));
                    }
                }
            }
        }
        wrong.dedup();
        best.map(|(_, found)| found).ok_or_else(|| {
            Error::value(format!(
                "these are no network's parameters: {}",
                wrong.join("; ")
            ))
        })
    }

    /// How many parameters a state dict has of this network.
    fn shared(&self, state: &StateDict) -> Result<usize> {
        let ours = self.declared()?.parameters.into_iter();
        let is_there = |(name, shape): &(String, Vec<usize>)| {
            state.get(name).is_some_and(|s| s.shape == *shape)
        };
        Ok(ours.filter(is_there).count())
    }

    /// What a network of these sizes has, without making one.
    ///
    /// # Errors
    /// Sizes that do not go together, or that are far too large.
    pub fn declared(&self) -> Result<Declared> {
        let rehearsal = RefCell::default();
        let forward = self.build(&Builder::rehearsal(&rehearsal))?;
        let parameters = rehearsal.into_inner().parameters;
        let modules = forward.unused();
        let unused = parameters
            .iter()
            .filter(|(name, _)| is_unused(modules, name));
        Ok(Declared {
            unused: unused.map(|(name, _)| name.clone()).collect(),
            parameters,
        })
    }
}

fn parse<Config: DeserializeOwned>(sizes: &str) -> Result<Config> {
    serde_json::from_str(sizes).map_err(|error| Error::value(format!("network sizes: {error}")))
}

pub(super) fn is_unused(modules: &[&str], name: &str) -> bool {
    let module = name.split('.').next();
    modules.iter().any(|&unused| module == Some(unused))
}
