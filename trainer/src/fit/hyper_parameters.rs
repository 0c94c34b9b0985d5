//! One definition of each hyper-parameter, from which everything else about it follows.
//!
//! serde could name and read the values, and clap could name the arguments. Neither checks ranges,
//! and each needs its own list of the fields. The macro below takes one table instead.

use std::fmt::Display;

use genre_model::Activation;

use crate::fit::thresholds::ThresholdRule;

/// A hyper-parameter outside its range.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{name}: expected {expected}, found {found}")]
pub struct InvalidParam {
    /// The name of the hyper-parameter.
    pub name: &'static str,
    /// Its range.
    pub expected: &'static str,
    /// The value that was given.
    pub found: String,
}

/// A value as model files and journals record it.
pub(crate) trait Recorded {
    fn recorded(&self) -> String;
}

macro_rules! recorded {
    ($($type:ty),*) => {
        $(impl Recorded for $type {
            fn recorded(&self) -> String {
                self.to_string()
            }
        })*
    };
}

recorded!(bool, f32, f64, u64, usize, ThresholdRule);

impl Recorded for Activation {
    fn recorded(&self) -> String {
        self.name().to_owned()
    }
}

/// Defines hyper-parameters from a table of `name: type = default, "range" => check;`.
///
/// It makes a struct with `Default`, `check` and `describe`, and a struct of command-line arguments
/// that change it. The doc comment of a hyper-parameter is also its help text.
macro_rules! hyper_parameters {
    (
        $(#[doc = $params_doc:tt])+
        $params:ident, changed by $changes:ident
        $(
            $(#[doc = $doc:tt])+
            #[arg($($arg:tt)+)]
            $field:ident: $type:ty = $default:expr $(, $range:literal => $is_valid:expr)?;
        )+
    ) => {
        $(#[doc = $params_doc])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $params {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl Default for $params {
            fn default() -> Self {
                Self { $($field: $default),+ }
            }
        }

        impl $params {
            /// Checks that every value is in its range.
            pub fn check(&self) -> Result<(), $crate::fit::hyper_parameters::InvalidParam> {
                $($(
                    let is_valid: fn(&Self) -> bool = $is_valid;
                    $crate::fit::hyper_parameters::require(
                        stringify!($field), $range, is_valid(self), &self.$field
                    )?;
                )?)+
                Ok(())
            }

            /// Names and values, as model files and journals record them.
            #[must_use]
            pub fn describe(&self) -> Vec<(&'static str, String)> {
                use $crate::fit::hyper_parameters::Recorded as _;
                vec![$((stringify!($field), self.$field.recorded())),+]
            }
        }

        // clap would show a doc comment of this struct as the description of the whole command.
        #[allow(missing_docs, reason = "command-line arguments that change the values above")]
        #[derive(Debug, Clone, Default, clap::Args)]
        pub struct $changes {
            $($(#[doc = $doc])+ #[arg($($arg)+)] pub $field: Option<$type>,)+
        }

        impl $changes {
            /// Overwrites the values that are given.
            pub fn apply(&self, params: &mut $params) {
                $(if let Some(value) = self.$field {
                    params.$field = value;
                })+
            }
        }
    };
}

pub(crate) use hyper_parameters;

pub(crate) fn require(
    name: &'static str,
    expected: &'static str,
    is_valid: bool,
    found: &impl Display,
) -> Result<(), InvalidParam> {
    if is_valid { Ok(()) } else { Err(InvalidParam { name, expected, found: found.to_string() }) }
}
