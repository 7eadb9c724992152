//! Numbers, sizes and spans of time as a person reads them; words as a shell does.

use std::time::Duration;

/// `1234567` as `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1234567` bytes as `1.2 MB`.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if number < 1000 {
        return format!("{number} B");
    }
    let (mut tenths, mut unit) = (number / 100, 0);
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Seconds with their two largest units: `3 d 4 h`, `2 min 5 s`.
pub(super) fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let first = UNITS.iter().position(|(size, _)| seconds >= *size).unwrap_or(UNITS.len() - 1);
    let (size, unit) = UNITS[first];
    let head = format!("{} {unit}", seconds / size);
    match UNITS.get(first + 1) {
        Some((small, unit)) if (seconds % size) / small > 0 => {
            format!("{head} {} {unit}", (seconds % size) / small)
        }
        _ => head,
    }
}

/// A short time in seconds: `34 ms`, `1.3 s`, `2 min 5 s`.
pub(super) fn seconds(seconds: f64) -> String {
    let duration = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    match duration.as_millis() {
        ms @ 0..1000 => format!("{ms} ms"),
        1000..10_000 => format!("{seconds:.1} s"),
        _ => span(duration.as_secs()),
    }
}

/// A word as the shell reads it back.
pub(super) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_the_shell() {
        for (word, quoted) in
            [("sandbox-secret", "sandbox-secret"), ("", "''"), ("p&q r", "'p&q r'"), ("it's", r"'it'\''s'")]
        {
            assert_eq!(quote(word), quoted);
        }
    }

    #[test]
    fn as_a_person_reads_them() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        for (number, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_999, "999.9 kB"),
            (1_234_567, "1.2 MB"),
            (u64::MAX, "18446.7 PB"),
        ] {
            assert_eq!(bytes(number), text);
        }
        for (number, text) in
            [(0, "0 s"), (59, "59 s"), (60, "1 min"), (125, "2 min 5 s"), (3601, "1 h"), (93_784, "1 d 2 h")]
        {
            assert_eq!(span(number), text);
        }
        for (number, text) in [(0.0004, "0 ms"), (0.034, "34 ms"), (1.25, "1.2 s"), (75.0, "1 min 15 s")] {
            assert_eq!(seconds(number), text);
        }
    }
}
