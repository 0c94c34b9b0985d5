//! Classifier, encoders and trainer as they are, over a simulated network and simulated time.
//!
//! A seed is a [`plan`]: hosts, load, and what is broken when. [`run`](run::run) lets the real services of
//! [`encoder_host`], [`classifier_host`] and [`trainer_host`] run on turmoil's hosts, each with a clock of its own, while
//! [`callers`] and [`reader`] hold every answer against the [`truth`]: the one vector that a text has, and the one answer that
//! a model gives. What is broken is written in the [`ledger`], with a hash over everything that happened.
//!
//! One process runs one seed (`simulate-one`), so that a run is a function of its seed alone; [`runner`] starts them.

pub mod callers;
pub mod classifier_host;
mod direct;
pub mod encoder_host;
pub mod encoder_workers;
mod items;
pub mod ledger;
pub mod network;
pub mod outcome;
pub mod plan;
pub mod reader;
pub mod run;
pub mod runner;
pub mod sabotage;
pub mod trainer_host;
pub mod truth;
pub mod world;
