//! Parameters at rest, outside the network: what a snapshot or a file holds.

use std::collections::HashMap;

/// A named tensor's shape and values.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// Named values in the network's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateDict {
    entries: Vec<(String, Values)>,
    index: HashMap<String, usize>,
}

impl StateDict {
    /// Adds the values, or replaces those of the same name.
    pub fn insert(&mut self, name: impl Into<String>, shape: Vec<usize>, data: Vec<f32>) {
        let (name, values) = (name.into(), Values { shape, data });
        match self.index.get(&name) {
            Some(&at) => self.entries[at].1 = values,
            None => {
                self.index.insert(name.clone(), self.entries.len());
                self.entries.push((name, values));
            }
        }
    }

    pub fn get(&self, name: &str) -> Option<&Values> {
        self.index.get(name).map(|&at| &self.entries[at].1)
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Values> {
        self.entries.iter_mut().map(|(_, values)| values)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Values)> {
        self.entries
            .iter()
            .map(|(name, values)| (name.as_str(), values))
    }
}
