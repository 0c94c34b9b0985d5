//! What was measured: printed as it comes, then as a table and as JSON.

use std::path::Path;

use comfy_table::{Table, presets};
use serde_json::{Map, Value};

/// The middle one.
///
/// # Panics
/// Of no values.
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
    /// Adds a figure, and prints it; `name` is its key in the file.
    pub fn add(&mut self, name: &str, value: f64, what: &str) {
        println!("{value:>10.3}  {what}");
        self.table.push([what.to_owned(), format!("{value:.3}")]);
        self.values.insert(name.to_owned(), value.into());
    }

    /// Prints the table, and writes the file.
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
