//! Template patterns of `to_char`, `to_timestamp` and `to_date` as the formats that the planner's functions take (`strftime`).

use crate::PgError;

/// The format that writes what the template does.
///
/// # Errors
/// 0A000 for a pattern that cannot be written so.
pub(super) fn written(template: &str) -> Result<String, PgError> {
    format(template, true)
}

/// The format that reads what the template does.
///
/// # Errors
/// As [`written`].
pub(super) fn read(template: &str) -> Result<String, PgError> {
    format(template, false)
}

/// Patterns, the longer of those that begin alike first, with the format of each and, behind `FM`, its format without padding.
const PATTERNS: [(&str, &str, &str); 27] = [
    ("HH24", "%H", "%-H"),
    ("HH12", "%I", "%-I"),
    ("HH", "%I", "%-I"),
    ("MI", "%M", "%-M"),
    ("SSSSS", "", ""),
    ("SSSS", "", ""),
    ("SS", "%S", "%-S"),
    ("MS", "%3f", ""),
    ("US", "%6f", ""),
    ("FF3", "%3f", ""),
    ("FF6", "%6f", ""),
    ("Y,YYY", "", ""),
    ("IYYY", "%G", "%G"),
    ("IY", "%g", ""),
    ("IW", "%V", ""),
    ("IDDD", "", ""),
    ("ID", "%u", "%u"),
    ("YYYY", "%Y", "%-Y"),
    ("YYY", "", ""),
    ("YY", "%y", "%-y"),
    ("MM", "%m", "%-m"),
    ("DDD", "%j", "%-j"),
    ("DD", "%d", "%-d"),
    ("Q", "%q", "%q"),
    ("TZH", "+00", "+00"),
    ("TZ", "UTC", "UTC"),
    ("OF", "+00", "+00"),
];

/// Names, which are spelled as the pattern is; those that PostgreSQL fills up with blanks are written behind `FM` alone.
const NAMES: [(&str, &str, bool); 8] = [
    ("Month", "%B", true),
    ("Mon", "%b", false),
    ("Day", "%A", true),
    ("Dy", "%a", false),
    ("AM", "%p", false),
    ("PM", "%p", false),
    ("am", "%P", false),
    ("pm", "%P", false),
];

fn format(template: &str, writes: bool) -> Result<String, PgError> {
    let refused = |pattern: &str| {
        let error = PgError::unsupported(format!("the pattern {pattern} of \"{template}\" is not supported"));
        error.with_hint("there are YYYY, MM, DD, DDD, HH24, HH12, MI, SS, MS, US, AM, Mon, Dy, FMMonth, FMDay, IYYY, IW, ID, Q, and \"text\" in quotes")
    };
    let mut format = String::new();
    let (mut rest, mut bare) = (template, false);
    while let Some(first) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"').ok_or_else(|| refused("\""))?;
            format.push_str(&quoted[..end].replace('%', "%%"));
            rest = &quoted[end + 1..];
            continue;
        }
        if matches!(first, '9' | '0') {
            // Digits of a number.
            return Err(refused(&first.to_string()));
        }
        if !first.is_ascii_alphabetic() {
            format.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let starts = |pattern: &str| {
            rest.get(..pattern.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(pattern))
        };
        if starts("FM") || starts("TM") {
            (bare, rest) = (true, &rest[2..]);
            continue;
        }
        let name = NAMES.iter().find(|(name, ..)| starts(name));
        if let Some((name, spelled, filled)) = name {
            let as_spelled = NAMES.iter().find(|(name, ..)| rest.starts_with(name));
            let spelled = match (as_spelled, writes) {
                // What is read may be spelled in any case.
                (_, false) => *spelled,
                (Some((_, spelled, _)), true) if bare || !filled => *spelled,
                _ => return Err(refused(name)),
            };
            format.push_str(spelled);
            (rest, bare) = (&rest[name.len()..], false);
            continue;
        }
        let Some((pattern, padded, unpadded)) = PATTERNS.iter().find(|(pattern, ..)| starts(pattern)) else {
            // Other letters are patterns too (`D`, `J`, `W`), or begin one: none is written as it stands.
            return Err(refused(&first.to_string()));
        };
        let spelled = if bare { unpadded } else { padded };
        if spelled.is_empty() || (!writes && spelled.starts_with(['+', 'U'])) {
            return Err(refused(pattern));
        }
        rest = &rest[pattern.len()..];
        if rest.get(..2).is_some_and(|suffix| suffix.eq_ignore_ascii_case("TH")) {
            return Err(refused("TH"));
        }
        // A point belongs to the fraction that follows it.
        format.push_str(spelled);
        bare = false;
    }
    Ok(format)
}
