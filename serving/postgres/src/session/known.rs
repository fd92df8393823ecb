//! The settings that PostgreSQL has, and what can be done with them here.

use super::SERVER_VERSION_NUMBER;

/// A setting that PostgreSQL has and clients ask for: its name, its value at first, and what can be done with it.
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    pub(super) change: Change,
    /// Whether clients are told its value when a connection begins, and when it changes.
    pub(super) reported: bool,
}

#[derive(Clone, Copy)]
pub(super) enum Change {
    /// Taken and told again; nothing follows from it.
    Any,
    /// Other values are refused.
    Only(fn(&str) -> bool),
    /// Other values are taken, with a warning that they change nothing.
    Ignored,
    Never,
}

const fn known(name: &'static str, default: &'static str, change: Change, reported: bool) -> Known {
    Known {
        name,
        default,
        change,
        reported,
    }
}

pub(super) const KNOWN: [Known; 37] = [
    known("application_name", "", Change::Any, true),
    known("bytea_output", "hex", Change::Only(|value| value == "hex"), false),
    known("client_encoding", "UTF8", Change::Only(is_utf8), true),
    known("client_min_messages", "notice", Change::Any, false),
    known(
        "DateStyle",
        "ISO, MDY",
        Change::Only(|value| value.to_ascii_uppercase().starts_with("ISO")),
        true,
    ),
    known("default_table_access_method", "heap", Change::Any, false),
    known("default_text_search_config", "pg_catalog.simple", Change::Any, false),
    known("default_transaction_isolation", "read committed", Change::Any, false),
    known("default_transaction_read_only", "on", Change::Ignored, true),
    known("enable_seqscan", "on", Change::Any, false),
    known("escape_string_warning", "on", Change::Any, false),
    known("extra_float_digits", "1", Change::Any, false),
    known("geqo", "on", Change::Any, false),
    known("idle_in_transaction_session_timeout", "0", Change::Any, false),
    known("idle_session_timeout", "0", Change::Any, false),
    known("in_hot_standby", "off", Change::Never, true),
    known("integer_datetimes", "on", Change::Never, true),
    known(
        "IntervalStyle",
        "postgres",
        Change::Only(|value| value.eq_ignore_ascii_case("postgres")),
        true,
    ),
    known("is_superuser", "off", Change::Never, true),
    known("jit", "off", Change::Any, false),
    known("lc_collate", "C", Change::Never, false),
    known("lc_ctype", "C", Change::Never, false),
    known("lc_messages", "C", Change::Any, false),
    known("lock_timeout", "0", Change::Any, false),
    known("max_identifier_length", "63", Change::Never, false),
    known("max_index_keys", "32", Change::Never, false),
    known("row_security", "on", Change::Any, false),
    known("search_path", "\"$user\", public", Change::Any, false),
    known("server_encoding", "UTF8", Change::Never, true),
    known("server_version_num", SERVER_VERSION_NUMBER, Change::Never, false),
    known(
        "standard_conforming_strings",
        "on",
        Change::Only(|value| matches!(value, "on" | "true" | "1")),
        true,
    ),
    known("synchronize_seqscans", "on", Change::Any, false),
    known("TimeZone", "UTC", Change::Ignored, true),
    known("transaction_isolation", "read committed", Change::Any, false),
    known("transaction_read_only", "on", Change::Ignored, false),
    known("wal_level", "replica", Change::Never, false),
    known("work_mem", "4MB", Change::Any, false),
];

fn is_utf8(value: &str) -> bool {
    matches!(
        value.trim_matches('\'').to_ascii_uppercase().as_str(),
        "UTF8" | "UTF-8" | "UNICODE" | "SQL_ASCII" | "AUTO"
    )
}

/// Whether a setting that stays as it is has been set to what it is.
pub(super) fn is_default(known: &Known, value: &str) -> bool {
    match known.name {
        "TimeZone" => {
            let zone = value.trim_matches('\'').to_ascii_uppercase();
            matches!(
                zone.as_str(),
                "UTC" | "GMT" | "ETC/UTC" | "ZULU" | "Z" | "0" | "UCT" | "GMT+0" | "+00:00" | "ETC/GMT"
            )
        }
        _ => matches!(value.to_ascii_lowercase().as_str(), "on" | "true" | "1" | "yes"),
    }
}
