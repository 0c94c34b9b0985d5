//! The machine that a benchmark runs on, because figures of different machines cannot be compared.

use std::collections::HashSet;

use serde_json::{Value, json};

/// The instruction sets that decide the speed of matrix products, as `/proc/cpuinfo` names them.
const INSTRUCTION_SETS: [&str; 14] = [
    "avx2",
    "fma",
    "avx512f",
    "avx512bw",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
];

/// A machine, as far as `/proc` describes it.
#[derive(Debug, PartialEq, Eq)]
pub struct Machine {
    processor: String,
    logical_cores: usize,
    physical_cores: usize,
    instruction_sets: Vec<String>,
}

impl Machine {
    /// Reads the machine of this process. What cannot be read is empty or 0.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
    }

    fn parse(cpuinfo: &str) -> Self {
        let fields = |name: &'static str| {
            let fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
            fields.filter(move |(key, _)| key.trim() == name).map(|(_, value)| value.trim())
        };
        let logical_cores = fields("processor").count();
        // A virtual machine may number no cores. Then each counts.
        let cores: HashSet<_> = fields("physical id").zip(fields("core id")).collect();
        let found: HashSet<_> =
            fields("flags").chain(fields("Features")).take(1).flat_map(str::split_whitespace).collect();
        let sets = INSTRUCTION_SETS.iter().filter(|set| found.contains(*set));
        Self {
            processor: fields("model name").next().unwrap_or_default().to_owned(),
            logical_cores,
            physical_cores: if cores.is_empty() { logical_cores } else { cores.len() },
            instruction_sets: sets.map(|set| (*set).to_owned()).collect(),
        }
    }

    /// The machine for the JSON file.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "processor": self.processor,
            "logical_cores": self.logical_cores,
            "physical_cores": self.physical_cores,
            "instruction_sets": self.instruction_sets,
        })
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let processor = if self.processor.is_empty() { "unknown processor" } else { &self.processor };
        write!(
            f,
            "{processor}, {} cores ({} physical), {}",
            self.logical_cores,
            self.physical_cores,
            self.instruction_sets.join(" ")
        )
    }
}

/// The processor time of the machine until now, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ticks {
    all: u64,
    stolen: u64,
}

impl Ticks {
    /// Reads `/proc/stat`; 0 without it.
    #[must_use]
    pub fn now() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    fn parse(stat: &str) -> Self {
        let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
        // user, nice, system, idle, iowait, irq, softirq, steal; the rest is part of user and nice.
        let ticks: Vec<u64> = fields.take(8).map_while(|field| field.parse().ok()).collect();
        Self { all: ticks.iter().sum(), stolen: ticks.get(7).copied().unwrap_or(0) }
    }

    /// The part of the time since `before` that the hypervisor gave to other machines.
    #[must_use]
    pub fn stolen_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        self.stolen.saturating_sub(before.stolen) as f64 / all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpuinfo(cores: &[(u32, u32)]) -> String {
        let core = |(number, (physical, core)): (usize, &(u32, u32))| {
            format!(
                "processor\t: {number}\nmodel name\t: Made-up CPU\nphysical id\t: {physical}\ncore id\t: {core}\nflags\t: fpu avx2 avx512_vnni amx_int8 amx_int8_more\n\n"
            )
        };
        cores.iter().enumerate().map(core).collect()
    }

    #[test]
    fn tells_two_cores_from_two_threads_of_one_core() {
        let machine = Machine::parse(&cpuinfo(&[(0, 0), (0, 1)]));
        assert_eq!((machine.logical_cores, machine.physical_cores), (2, 2));
        let machine = Machine::parse(&cpuinfo(&[(0, 0), (0, 0), (1, 0), (1, 0)]));
        assert_eq!((machine.logical_cores, machine.physical_cores), (4, 2));
        assert_eq!(machine.to_string(), "Made-up CPU, 4 cores (2 physical), avx2 avx512_vnni amx_int8");
    }

    #[test]
    fn a_machine_without_a_description_has_none() {
        let machine = Machine::parse("processor\t: 0\nFeatures\t: fp asimddp i8mm\n");
        assert_eq!(machine.to_string(), "unknown processor, 1 cores (1 physical), asimddp i8mm");
        assert_eq!(Machine::parse("").to_json()["logical_cores"], 0);
    }

    #[test]
    fn counts_stolen_time_as_a_part_of_all() {
        let before = Ticks::parse("cpu  100 0 50 800 10 0 5 35 7 0\ncpu0 1 2 3\n");
        let after = Ticks::parse("cpu  150 0 50 820 10 0 5 65 9 0\n");
        assert!((after.stolen_since(before) - 0.3).abs() < 1e-9);
        assert!(Ticks::parse("").stolen_since(Ticks::default()) < 1e-9);
    }
}
