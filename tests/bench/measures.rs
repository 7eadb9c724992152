//! What was measured, by name.

use std::collections::BTreeMap;

/// The samples of every figure.
#[derive(Default)]
pub struct Measures(BTreeMap<&'static str, Vec<f64>>);

impl Measures {
    pub fn add(&mut self, name: &'static str, value: f64) {
        self.0.entry(name).or_default().push(value);
    }

    /// The figures of a name in ascending order; none if it was not measured.
    pub fn sorted(&self, name: &str) -> Vec<f64> {
        let mut values = self.0.get(name).cloned().unwrap_or_default();
        values.sort_by(f64::total_cmp);
        values
    }

    pub fn median(&self, name: &str) -> Option<f64> {
        let values = self.sorted(name);
        values.get(values.len() / 2).copied()
    }
}

/// The value below which `part` of the sorted values lie; 0 for none.
pub fn percentile(sorted: &[u32], part: f64) -> f64 {
    let index = (sorted.len() as f64 * part) as usize;
    sorted.get(index.min(sorted.len().saturating_sub(1))).map_or(0.0, |value| f64::from(*value))
}
