//! Measured figures and the machine that they belong to: printed as they arrive, then as a table, and
//! written as JSON.

use std::path::Path;

use comfy_table::{Table, presets};
use serde_json::{Map, Value, json};

use crate::machine::{Machine, Ticks};

/// Returns the median, or the upper one of the two in the middle.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Figures in the order in which they were measured.
pub struct Figures {
    machine: Machine,
    values: Map<String, Value>,
    table: Vec<[String; 3]>,
    /// The part of the time before each figure that was stolen, since the figure before it.
    stolen: Map<String, Value>,
    begin: Ticks,
    last: Ticks,
}

impl Figures {
    /// Begins a run, and prints the machine.
    #[must_use]
    pub fn begin() -> Self {
        let machine = Machine::of_this_process();
        println!("{machine}");
        let now = Ticks::now();
        Self { machine, values: Map::new(), table: Vec::new(), stolen: Map::new(), begin: now, last: now }
    }

    /// Records a figure and prints it. `key` names it in the JSON file; `description` starts with
    /// its unit.
    pub fn add(&mut self, key: &str, value: f64, description: &str) {
        let now = Ticks::now();
        let stolen = now.stolen_since(self.last);
        self.last = now;
        println!("{value:>10.3}  {description}");
        self.table.push([description.to_owned(), format!("{value:.3}"), format!("{:.1} %", stolen * 100.0)]);
        self.values.insert(key.to_owned(), value.into());
        self.stolen.insert(key.to_owned(), stolen.into());
    }

    /// Records a fact about the whole run that is no measurement.
    pub fn note(&mut self, key: &str, value: impl Into<Value>) {
        self.values.insert(key.to_owned(), value.into());
    }

    /// Prints all figures as a table and writes them to `output` as JSON, both with the machine and
    /// with the part of the time that the hypervisor gave to other machines.
    pub fn write(mut self, output: &Path) -> std::io::Result<()> {
        let stolen = Ticks::now().stolen_since(self.begin);
        let machine = format!("{}; {:.1} % of the time stolen", self.machine, stolen * 100.0);
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header([machine.as_str(), "", "stolen"]).add_rows(&self.table);
        println!("{table}");
        self.values.insert("machine".to_owned(), self.machine.to_json());
        let stolen = json!({ "whole_run": stolen, "by_figure": self.stolen });
        self.values.insert("stolen_ratio".to_owned(), stolen);
        if let Some(folder) = output.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(output, format!("{:#}\n", Value::Object(self.values)))?;
        println!("wrote {}", output.display());
        Ok(())
    }
}
