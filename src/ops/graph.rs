//! Reverse-mode differentiation over our operators.
//!
//! candle's own adds every gradient to fresh zeros and holds all tensors of a graph until its end.
//! Here a gradient that comes alone is taken as it is, and what an operator kept is let go with it.

use super::adapter::{Adapter, Recorded};
use super::{Knowledge, Operator, Values, add};
use crate::kernels::Sparsity;
use crate::runtime::cancel;
use crate::runtime::lock::lock;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Values and, where gradients are wanted, how they came about.
#[derive(Clone, Debug)]
pub struct Tensor {
    values: Values,
    node: Option<Arc<Node>>,
    knowledge: Knowledge,
}

/// A variable, or the result of an operator.
#[derive(Debug)]
struct Node {
    /// Results have larger numbers than what they came from.
    number: u64,
    /// Taken by backward; variables have none.
    record: Mutex<Option<Record>>,
    is_variable: bool,
}

#[derive(Debug)]
struct Record {
    inputs: Vec<Tensor>,
    operator: Box<dyn Recorded>,
}

/// The gradients of variables.
#[derive(Debug, Default)]
pub struct Gradients(BTreeMap<u64, Values>);

impl Gradients {
    /// The gradient of a variable, where the result depends on it.
    pub fn get(&self, variable: &Tensor) -> Option<&Values> {
        self.0.get(&variable.node.as_ref()?.number)
    }

    /// Adds those of another result by the same variables.
    pub fn add(&mut self, others: Self) -> Result<()> {
        for (number, gradient) in others.0 {
            match self.0.entry(number) {
                Entry::Vacant(place) => {
                    place.insert(gradient);
                }
                Entry::Occupied(mut place) => {
                    let sum = sum(place.get(), &gradient)?;
                    place.insert(sum);
                }
            }
        }
        Ok(())
    }
}

impl Node {
    fn new(record: Option<Record>) -> Arc<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            is_variable: record.is_none(),
            record: Mutex::new(record),
        })
    }
}

impl Tensor {
    /// Values that no gradient goes to.
    pub fn constant(values: impl Into<Values>) -> Self {
        Self {
            values: values.into(),
            node: None,
            knowledge: Knowledge::default(),
        }
    }

    /// Values that [`Self::backward`] gives the gradient of.
    pub fn variable(values: impl Into<Values>) -> Self {
        Self {
            values: values.into(),
            node: Some(Node::new(None)),
            knowledge: Knowledge {
                sparsity: None,
                made: Some(Arc::default()),
            },
        }
    }

    /// The same, known to be zero where `mask` is not set.
    pub fn masked(&self, mask: Option<Arc<Sparsity>>) -> Self {
        let made = self.knowledge.made.as_ref().map(|_| Arc::default());
        Self {
            knowledge: Knowledge {
                sparsity: mask,
                made,
            },
            ..self.clone()
        }
    }

    /// The same values, that no gradient goes to.
    pub fn detached(&self) -> Self {
        Self {
            node: None,
            ..self.clone()
        }
    }

    pub fn mask(&self) -> Option<&Arc<Sparsity>> {
        self.knowledge.sparsity.as_ref()
    }

    pub fn knowledge(&self) -> &Knowledge {
        &self.knowledge
    }

    /// To be called when its values change.
    pub fn forget(&self) {
        if let Some(made) = &self.knowledge.made {
            made.clear();
        }
    }

    pub fn values(&self) -> &Values {
        &self.values
    }

    pub fn dims(&self) -> &[usize] {
        self.values.dims()
    }

    /// What lies on the processor.
    #[cfg(test)]
    pub fn cpu(&self) -> &candle_core::Tensor {
        match &self.values {
            Values::Cpu(values) => values,
            Values::Cuda(_) => panic!("on a GPU"),
        }
    }

    /// Whether a gradient may go through.
    pub fn is_recorded(&self) -> bool {
        self.node.is_some()
    }

    /// The gradients of Σ `gradient` · self. A graph is good for one backward: what its operators
    /// kept is let go on the way.
    ///
    /// # Errors
    /// The graph was used before, an operator fails, or the caller asked to stop.
    pub fn backward(self, gradient: impl Into<Values>) -> Result<Gradients> {
        let mut gradients = Gradients::default();
        let mut pending: BTreeMap<u64, (Arc<Node>, Values)> = BTreeMap::new();
        pending.extend(self.node.map(|node| (node.number, (node, gradient.into()))));
        // All that a result went into has a larger number, so its gradient is complete.
        while let Some((number, (node, gradient))) = pending.pop_last() {
            cancel::check()?;
            if node.is_variable {
                gradients.0.insert(number, gradient);
                continue;
            }
            let mut record = lock(&node.record);
            let Some(Record { inputs, operator }) = record.take() else {
                return Err(Error::internal(
                    "backward through a graph for the second time",
                ));
            };
            let parts = operator.backward(&inputs, &gradient)?;
            for (input, part) in inputs.iter().zip(parts) {
                let Some(node) = &input.node else { continue };
                match pending.entry(node.number) {
                    Entry::Vacant(entry) => {
                        entry.insert((node.clone(), part));
                    }
                    Entry::Occupied(mut entry) => {
                        let sum = sum(&entry.get().1, &part)?;
                        entry.get_mut().1 = sum;
                    }
                }
            }
        }
        Ok(gradients)
    }
}

fn sum(a: &Values, b: &Values) -> Result<Values> {
    let [a, b] = [a, b].map(|values| Tensor::constant(values.clone()));
    Ok(add(&a, &b)?.values)
}

/// The result of an operator, recorded where one of its inputs is.
pub fn apply<O: Operator>(mut operator: O, inputs: &[&Tensor]) -> Result<Tensor> {
    cancel::check()?;
    let inputs: Vec<Tensor> = inputs.iter().copied().cloned().collect();
    let values = Adapter::forward(&mut operator, &inputs)?;
    let record = inputs.iter().any(Tensor::is_recorded).then(|| Record {
        inputs,
        operator: Box::new(Adapter(operator)),
    });
    Ok(Tensor {
        values,
        node: record.map(|record| Node::new(Some(record))),
        knowledge: Knowledge::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cat;
    use crate::ops::testing::{flat, tensor};

    fn variable(data: Vec<f64>) -> Tensor {
        let length = data.len();
        Tensor::variable(tensor(data, &[1, 1, length, 1]).cpu().clone())
    }

    fn backward(y: Tensor, gradient: Vec<f64>) -> Result<Gradients> {
        let gradient = tensor(gradient, y.dims());
        y.backward(gradient.values().clone())
    }

    fn gradient_of(all: &Gradients, variable: &Tensor) -> Vec<f64> {
        flat(&Tensor::constant(all.get(variable).unwrap().clone()))
    }

    /// x goes into y on three ways of different length.
    #[test]
    fn gradients_of_all_ways_add_up() {
        let x = variable(vec![1.0, 2.0]);
        let twice = add(&x, &x).unwrap();
        let y = cat(&add(&twice, &x).unwrap(), &x).unwrap();
        assert_eq!(flat(&y), [3.0, 6.0, 1.0, 2.0]);
        let all = backward(y, vec![1.0, 10.0, 100.0, 1000.0]).unwrap();
        assert_eq!(gradient_of(&all, &x), [103.0, 1030.0]);
    }

    #[test]
    fn constants_are_not_recorded() {
        let x = tensor(vec![1.0], &[1, 1, 1, 1]);
        assert!(!add(&x, &x).unwrap().is_recorded());
        let (y, unused) = (variable(vec![1.0]), variable(vec![1.0]));
        let all = backward(add(&x, &y).unwrap(), vec![1.0]).unwrap();
        assert_eq!(gradient_of(&all, &y), [1.0]);
        assert!(all.get(&x).is_none() && all.get(&unused).is_none());
    }

    #[test]
    fn a_second_backward_is_refused() {
        let x = variable(vec![1.0]);
        let y = add(&x, &x).unwrap();
        assert!(backward(y.clone(), vec![1.0]).is_ok());
        let error = backward(y, vec![1.0]).unwrap_err();
        assert!(error.to_string().contains("second time"), "{error}");
    }
}
