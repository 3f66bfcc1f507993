//! Parameters at rest, outside the network: what a snapshot or a file holds.

use std::collections::HashMap;

/// A named tensor's shape and values.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// Named values in the network's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateDict {
    entries: Vec<(String, Stored)>,
    index: HashMap<String, usize>,
}

impl StateDict {
    /// Adds the values, or replaces those of the same name.
    pub fn insert(&mut self, name: impl Into<String>, shape: Vec<usize>, data: Vec<f32>) {
        let (name, values) = (name.into(), Stored { shape, data });
        match self.index.get(&name) {
            Some(&at) => self.entries[at].1 = values,
            None => {
                self.index.insert(name.clone(), self.entries.len());
                self.entries.push((name, values));
            }
        }
    }

    pub fn get(&self, name: &str) -> Option<&Stored> {
        self.index.get(name).map(|&at| &self.entries[at].1)
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Stored> {
        self.entries.iter_mut().map(|(_, values)| values)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Stored)> {
        self.entries
            .iter()
            .map(|(name, values)| (name.as_str(), values))
    }
}
