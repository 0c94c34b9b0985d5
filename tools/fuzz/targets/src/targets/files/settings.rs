//! Settings files of both services, from TOML to a validated configuration.

use std::path::Path;

use classifier_svc::{ClassifierSvcConfig, ClassifierSvcSettings};
use encoder_client::Policy;
use encoder_svc::{EncoderSvcConfig, EncoderSvcSettings};
use service_kit::{Overrides, Settings, SettingsError, load_settings, print_settings};

use crate::harness::allocation::bounded;
use crate::harness::inputs::{file, repository, seeds_of};
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "settings",
    check,
    seeds,
    dictionary: &[
        "[limits]\n",
        "max_batch_size = ",
        "[[auth.keys]]\n",
        "name = \"ci\"\n",
        "sha256 = \"",
        "listen = \"127.0.0.1:0\"\n",
        "[encoder]\n",
        "url = \"http://[::1]:1,https://a\"\n",
        "sessions = ",
        "= nan\n",
        "= inf\n",
        "= -1\n",
        "= 1e19\n",
        "= 9223372036854775807\n",
        "\"a.b\" = 1\n",
        "[rest]\n",
        "cors_origins = [\"*\"]\n",
        "timeout_seconds = 0.0001\n",
        "drain_seconds = ",
        "1979-05-27T07:32:00Z",
        "\"\"\"",
        "{",
        "[",
        "#",
    ],
    max_len: 2048,
    cases: 12000,
};

/// A prefix that no environment variable has.
const PREFIX: &str = "FUZZ_NO_SUCH_PREFIX";

fn check(data: &[u8]) {
    let path = file("settings.toml", data);
    if let Some(settings) = loaded::<EncoderSvcSettings>(data, &path) {
        match EncoderSvcConfig::try_from(settings) {
            Ok(config) => {
                assert!((1..=1 << 16).contains(&config.limits.max_batch_size));
                assert!((1..=1 << 24).contains(&config.limits.max_text_bytes));
                assert!((1..=1024).contains(&config.encoder.sessions));
                assert!(config.limits.max_message_bytes() >= config.limits.max_text_bytes);
            }
            Err(error) => assert_names_the_setting(&error.to_string()),
        }
    }
    if let Some(settings) = loaded::<ClassifierSvcSettings>(data, &path) {
        // An input must not choose the files that are read for a key and certificates.
        if settings.encoder.api_key_file.is_some() || settings.encoder.tls.ca.is_some() {
            return;
        }
        let url = settings.encoder.url.clone();
        match ClassifierSvcConfig::try_from(settings) {
            Ok(config) => {
                assert_eq!(config.encoder.targets.len(), url.split(',').count());
                assert!((1..=1 << 16).contains(&config.limits.max_batch_size));
                assert!(config.limits.max_json_bytes() >= config.limits.max_message_bytes());
                let Policy::Online(policy) = config.encoder.policy else {
                    panic!("expected an online policy for a classifier")
                };
                assert!(!config.model_poll.is_zero() && !policy.timeout.is_zero());
            }
            Err(error) => assert_names_the_setting(&error.to_string()),
        }
    }
}

/// Returns the settings if the file is valid. Asserts that they can be printed and loaded again
/// without a difference.
fn loaded<T: Settings>(data: &[u8], path: &Path) -> Option<T> {
    let load = |path: &Path| load_settings::<T>(PREFIX, Some(path), Overrides::default());
    let settings = match bounded(data.len(), || load(path)) {
        Ok(settings) => settings,
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with("settings"), "{message}");
            if let SettingsError::UnknownKey { key, .. } = error {
                assert!(message.contains(&key));
            }
            return None;
        }
    };
    let printed = print_settings(&settings);
    let again = file("printed.toml", printed.as_bytes());
    let again = load(&again).unwrap_or_else(|error| panic!("printed settings are valid: {error}\n{printed}"));
    assert_eq!(print_settings(&again), printed);
    Some(settings)
}

fn assert_names_the_setting(message: &str) {
    let names = ["setting ", "certificate ", "key ", "authority ", "TLS: "];
    assert!(names.iter().any(|name| message.starts_with(name)), "{message}");
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = ["encoder-svc", "classifier-svc"]
        .iter()
        .map(|name| {
            std::fs::read(repository(&format!("deploy/config/{name}.toml"))).expect("the file exists")
        })
        .collect();
    let hash = "ab".repeat(32);
    let keys = format!(
        "[[auth.keys]]\nname = \"ci\"\nsha256 = \"{hash}\"\nrequests_per_second = 4294967295\nburst = 1\n"
    );
    let files = [
        keys.as_str(),
        "drain_seconds = 1e19\nendpoint_removal_seconds = -0.0\n[limits]\nmax_batch_size = 65536\n",
        "listen = \"[::]:0\"\n[encoder]\nsessions = 3\ncache_mib = 0\nbundle = \"é\"\n",
        "[encoder]\nurl = \"http://a:1, https://[::1]:2\"\napi_key = \"k\"\nhedge_seconds = 0\n",
        "limits.max_batch_size = 7\n\"limits\".stream_in_flight = 1\nrest = {listen = \"\", cors_origins = [\"http://a\"]}\n",
        "limit = 1\n",
        "[log]\nformat = \"json\"\nfilter = \"\"\n[trace]\nsample_ratio = nan\n",
        "listen = 7\n",
    ];
    seeds.extend(seeds_of(files));
    seeds
}
