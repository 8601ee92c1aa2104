//! When a certificate ends: the one field of it that TLS itself does not tell.
//!
//! Rustls judges a certificate and keeps its dates to itself, and a parser of the whole of X.509 is much for one field. So
//! the path to it is walked here; whoever sent it has proven nothing yet where `verify_tls` is off, so every length is
//! checked, and what does not fit is simply not known.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rustls::pki_types::CertificateDer;

/// ASN.1 tags on the way.
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT`: the version, which the oldest certificates leave out.
const VERSION: u8 = 0xa0;

const MICROS_A_DAY: i64 = 86_400 * 1_000_000;

/// The certificate's `notAfter`, wall clock in microseconds; `None` if it is not where RFC 5280 §4.1 puts it.
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (tag, whole, _) = element(certificate)?;
    let (inner, signed, _) = element((tag == SEQUENCE).then_some(whole)?)?;
    let mut rest = (inner == SEQUENCE).then_some(signed)?;
    if *rest.first()? == VERSION {
        rest = element(rest)?.2;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (tag, validity, _) = element(rest)?;
    let (_, _, after_first) = element((tag == SEQUENCE).then_some(validity)?)?;
    let (tag, text, _) = element(after_first)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// `certificate ends in 12 days`: what is left of it, in words.
pub fn left(ends: i64, now: i64) -> String {
    let days = (ends - now).div_euclid(MICROS_A_DAY);
    match days {
        ..0 => format!("certificate ended {} ago", if days == -1 { "a day".to_owned() } else { format!("{} days", -days) }),
        0 => "certificate ends within a day".to_owned(),
        1 => "certificate ends in 1 day".to_owned(),
        _ => format!("certificate ends in {days} days"),
    }
}

/// The first element of some DER: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        // Four bytes of length are four gigabytes; the indefinite form (0x80) is not DER.
        long @ 0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (bytes.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`; two digits below 50 are of this century (RFC 5280 §4.1.2.5.1).
fn time(tag: u8, text: &str) -> Option<i64> {
    let (year, rest) = match tag {
        UTC_TIME => {
            let short: i16 = text.get(..2)?.parse().ok()?;
            (if short < 50 { 2000 + short } else { 1900 + short }, text.get(2..)?)
        }
        GENERALIZED_TIME => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    let two = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
    if rest.len() != 11 || !rest.ends_with('Z') {
        return None;
    }
    let civil = DateTime::new(year, two(0)?, two(2)?, two(4)?, two(6)?, two(8)?, 0).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(year: i32) -> CertificateDer<'static> {
        let mut parameters = rcgen::CertificateParams::new(vec!["shop.example.com".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 3, 1);
        parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn the_end_is_read_in_both_forms_of_time() {
        for (year, expected) in [(2031, "2031-03-01T00:00:00Z"), (2099, "2099-03-01T00:00:00Z")] {
            let expected: jiff::Timestamp = expected.parse().unwrap();
            assert_eq!(not_after(&ending(year)), Some(expected.as_microsecond()), "{year}");
        }
    }

    #[test]
    fn what_is_cut_or_bent_is_not_known_and_never_a_panic() {
        let whole = ending(2031);
        for length in 0..whole.len() {
            // Behind the validity nothing is read any more; before it every cut is noticed.
            let found = not_after(&CertificateDer::from(whole[..length].to_vec()));
            assert_eq!(found, None, "{length}: the outermost length no longer fits");
        }
        for at in 0..whole.len().min(200) {
            let mut bent = whole.to_vec();
            bent[at] ^= 0xff;
            // Any answer will do but a panic.
            let _ = not_after(&CertificateDer::from(bent));
        }
        assert_eq!(element(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 1]), None);
        assert_eq!(time(UTC_TIME, "3103010000Z"), None);
        assert_eq!(time(UTC_TIME, "310301000000+0100"), None);
    }

    #[test]
    fn what_is_left_is_said_in_days() {
        let day = MICROS_A_DAY;
        assert_eq!(left(12 * day + 5, 0), "certificate ends in 12 days");
        assert_eq!(left(day / 2, 0), "certificate ends within a day");
        assert_eq!(left(0, 3 * day), "certificate ended 3 days ago");
    }
}
