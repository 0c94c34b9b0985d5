//! Measured figures: printed as they arrive, then as a table, and written as JSON.

use std::path::Path;

use comfy_table::{Table, presets};
use serde_json::{Map, Value};

/// Returns the median, or the upper one of the two in the middle.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Figures in the order in which they were measured.
#[derive(Default)]
pub struct Figures {
    values: Map<String, Value>,
    table: Vec<[String; 2]>,
}

impl Figures {
    /// Records a figure and prints it. `key` names it in the JSON file; `description` starts with
    /// its unit.
    pub fn add(&mut self, key: &str, value: f64, description: &str) {
        println!("{value:>10.3}  {description}");
        self.table.push([description.to_owned(), format!("{value:.3}")]);
        self.values.insert(key.to_owned(), value.into());
    }

    /// Prints all figures as a table and writes them to `output` as JSON.
    pub fn write(self, output: &Path) -> std::io::Result<()> {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).add_rows(&self.table);
        println!("{table}");
        if let Some(folder) = output.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(output, format!("{:#}\n", Value::Object(self.values)))?;
        println!("wrote {}", output.display());
        Ok(())
    }
}
