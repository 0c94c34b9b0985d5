//! Tests of the settings.

use super::*;

#[test]
fn the_example_file_documents_every_key_with_its_default() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/config/encoder-svc.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let loaded: EncoderSvcSettings =
        service_kit::load_settings("NO_SUCH_PREFIX", Some(path.as_ref()), service_kit::Overrides::default())
            .unwrap();
    assert_eq!(loaded, EncoderSvcSettings::default());
    let mut known = service_kit::keys(&serde_json::to_value(EncoderSvcSettings::default()).unwrap());
    known.sort();
    assert_eq!(service_kit::documented_keys(&text).unwrap(), known);
}

#[test]
fn rejects_keys_of_earlier_releases_and_names_the_new_ones() {
    let known = service_kit::keys(&serde_json::to_value(EncoderSvcSettings::default()).unwrap());
    for (old, new) in EncoderSvcSettings::RENAMED_KEYS {
        assert!(known.iter().any(|key| key == new), "{new}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{old} = 1")).unwrap();
        let flags = service_kit::Overrides::default();
        let loaded =
            service_kit::load_settings::<EncoderSvcSettings>("NO_SUCH_PREFIX", Some(file.path()), flags);
        let message = loaded.unwrap_err().to_string();
        assert!(message.ends_with(&format!("key {old} is now called {new}; rename it")), "{message}");
    }
}

#[test]
fn every_key_can_be_set_by_its_variable() {
    let unchangeable = service_kit::unchangeable_keys::<EncoderSvcSettings>(ENVIRONMENT_PREFIX);
    assert!(unchangeable.is_empty(), "{unchangeable:?}");
}

/// Every number, with values that nothing could work with.
#[test]
fn a_number_that_cannot_work_is_rejected_by_its_key() {
    let sets =
        service_kit::load_each::<EncoderSvcSettings>(ENVIRONMENT_PREFIX, service_kit::impossible_numbers);
    assert!(sets.len() > 20);
    for set in sets {
        let message = match set.loaded {
            Ok(settings) => EncoderSvcConfig::try_from(settings).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(message.contains(&set.key), "{} = {}: {message}", set.key, set.value);
    }
}

#[test]
fn printed_settings_load_as_the_same_settings() {
    let settings = EncoderSvcSettings::default();
    let again: EncoderSvcSettings = toml::from_str(&service_kit::print_settings(&settings)).unwrap();
    assert_eq!(again, settings);
}

#[test]
fn the_defaults_are_a_valid_configuration() {
    let config = EncoderSvcConfig::try_from(EncoderSvcSettings::default()).unwrap();
    assert!(config.encoder.sessions >= 1);
}

#[test]
fn the_device_decides_the_default_batch_size() {
    let batch_tokens = |device, batch_tokens| {
        let mut settings = EncoderSvcSettings::default();
        (settings.encoder.device, settings.encoder.batch_tokens) = (device, batch_tokens);
        EncoderSvcConfig::try_from(settings).unwrap().encoder.batch_tokens
    };
    assert_eq!(batch_tokens(Device::Cpu, 0), None);
    assert_eq!(batch_tokens(Device::Cuda, 0), Some(2048));
    assert_eq!(batch_tokens(Device::Cuda, 1), None);
    assert_eq!(batch_tokens(Device::Cpu, 512), Some(512));
}

#[test]
fn the_device_decides_the_default_number_of_texts_in_flight() {
    let in_flight = |device, stream_in_flight| {
        let mut settings = EncoderSvcSettings::default();
        (settings.encoder.device, settings.limits.stream_in_flight) = (device, stream_in_flight);
        EncoderSvcConfig::try_from(settings).unwrap().limits.stream_in_flight
    };
    assert_eq!(
        [in_flight(Device::Cpu, 0), in_flight(Device::Cuda, 0), in_flight(Device::Cuda, 7)],
        [64, 512, 7]
    );
}

#[test]
fn limits_the_number_of_call_threads() {
    let threads =
        |call_threads| EncoderSvcSettings { call_threads, ..EncoderSvcSettings::default() }.call_threads();
    assert!(threads(0) >= 1);
    assert_eq!([threads(3), threads(usize::MAX)], [3, MAX_CALL_THREADS]);
    let settings = EncoderSvcSettings { call_threads: 5000, ..EncoderSvcSettings::default() };
    let message = EncoderSvcConfig::try_from(settings).unwrap_err().to_string();
    assert!(message.contains("call_threads") && message.contains("5000"), "{message}");
}

#[test]
fn the_memory_budget_has_room_for_the_requests_of_both_listeners() {
    let largest = |listen: &str| {
        let mut settings = EncoderSvcSettings::default();
        settings.http.listen = listen.to_owned();
        EncoderSvcConfig::try_from(settings).unwrap().largest_message_bytes()
    };
    assert_eq!([largest(""), largest("127.0.0.1:9464")], [8_393_728, 25_170_944]);
}

#[test]
fn rejects_a_queue_limit_of_zero() {
    let mut settings = EncoderSvcSettings::default();
    settings.encoder.max_queue_ms = 0;
    let message = EncoderSvcConfig::try_from(settings).unwrap_err().to_string();
    assert!(message.contains("encoder.max_queue_ms") && message.contains("600000"), "{message}");
}
