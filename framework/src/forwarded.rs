//! Owns who a client is behind a proxy: reads what proxies say of addresses. Whom to believe is
//! an argument.

use std::net::{IpAddr, SocketAddr};

/// The address nearest to us that is not a proxy we believe, as the proxies tell it; `None` when
/// they tell none. Each adds the address it saw at the end, and what stands before the first that
/// is not believed may be made up.
///
/// `header` gives every value of a header in its order, for those who ask have each a type of
/// their own for headers.
pub(crate) fn client<'h>(
    header: impl Fn(&'static str) -> Vec<&'h str>,
    believes: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let entries = |name| header(name).into_iter().flat_map(|text| text.split(','));
    let mut said: Vec<Option<IpAddr>> = entries("x-forwarded-for").map(address).collect();
    if said.is_empty() {
        said = entries("forwarded").map(forwarded_for).collect();
    }
    let mut nearest = None;
    for ip in said.into_iter().rev() {
        // What cannot be read ends the chain: whoever stands behind it is not known.
        nearest = Some(ip?);
        if !nearest.is_some_and(&believes) {
            break;
        }
    }
    nearest
}

/// The `for` of one entry of `Forwarded`.
fn forwarded_for(entry: &str) -> Option<IpAddr> {
    let pairs = entry.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, node) = pairs.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    address(node)
}

/// An address, with or without quotes, brackets and port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let ip = text.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        bare.unwrap_or(text).parse()
    });
    ip.ok().map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(headers: &[(&'static str, &'static str)]) -> Option<String> {
        let header = |wanted: &str| {
            headers.iter().filter(|(name, _)| *name == wanted).map(|(_, value)| *value).collect()
        };
        let believes = |ip: IpAddr| ip.to_string().starts_with("10.");
        client(header, believes).map(|ip| ip.to_string())
    }

    #[test]
    fn the_address_nearest_to_us_that_is_not_a_proxy_counts() {
        let chain = |text: &'static str| told(&[("x-forwarded-for", text)]);
        assert_eq!(chain("1.2.3.4").as_deref(), Some("1.2.3.4"));
        assert_eq!(chain("6.6.6.6, 1.2.3.4, 10.0.0.9").as_deref(), Some("1.2.3.4"));
        assert_eq!(chain("10.0.0.1,10.0.0.2").as_deref(), Some("10.0.0.1"), "one of ours asks");
        assert_eq!(chain("1.2.3.4:555").as_deref(), Some("1.2.3.4"));
        assert_eq!(chain("[2001:db8::1]:555").as_deref(), Some("2001:db8::1"));
        assert_eq!(chain("1.2.3.4, nonsense"), None, "what cannot be read is not passed over");
    }

    #[test]
    fn the_standard_header_is_read_too() {
        let chain = |text: &'static str| told(&[("forwarded", text)]);
        assert_eq!(chain("for=1.2.3.4;proto=https, For=10.0.0.1").as_deref(), Some("1.2.3.4"));
        assert_eq!(chain("proto=http;for=\"[2001:db8::1]:7\"").as_deref(), Some("2001:db8::1"));
        assert_eq!(chain("for=_hidden"), None);
        assert_eq!(told(&[]), None);
    }
}
