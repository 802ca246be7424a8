//! Whose client it is: the address that a trusted proxy gives in a PROXY header (version 1 or 2) before anything else,
//! or in `X-Forwarded-For` with each request. Of anybody else both count for nothing.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use axum::http::HeaderMap;
use ipnet::IpNet;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// The address of the client that a request comes from, beside each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// Longest header of version 1, its line end included.
const MAX_TEXT: usize = 107;
/// What a header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Longest header of version 2 that is read, addresses and all that may follow them.
const MAX_BINARY: usize = 16 + 1024;

/// Networks, as the settings list them: `10.0.0.0/8`, `2001:db8::/32`, or single addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Reads them.
    ///
    /// # Errors
    /// A sentence that names what is no network.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let networks = texts.iter().map(|text| {
            let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| format!("`{text}` is no address and no network such as 10.0.0.0/8"))
        });
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// Whether one of them has this address.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        Self::parse(&texts).map_err(|error| D::Error::custom(format!("server.trusted_proxies: {error}")))
    }
}

/// The address that the client of a request has: that of its connection, or where that is a trusted proxy's, the last
/// that `X-Forwarded-For` names and that is not one itself. What stands before it the client may have made up.
pub(super) fn client_of(connection: IpAddr, headers: &HeaderMap, trusted: &Networks) -> IpAddr {
    let mut client = connection.to_canonical();
    let lines: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok()).collect();
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        if !trusted.contain(client) {
            break;
        }
        let Some(address) = address_in(hop.trim()) else { break };
        client = address.to_canonical();
    }
    client
}

/// An address as proxies write it: with a port or without, IPv6 in brackets or not.
fn address_in(hop: &str) -> Option<IpAddr> {
    if let Ok(address) = hop.parse() {
        return Some(address);
    }
    if let Ok(address) = hop.parse::<std::net::SocketAddr>() {
        return Some(address.ip());
    }
    hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    /// No PROXY header.
    Other,
    /// It may become one.
    More,
    /// A header of this many bytes, with the client's address unless the proxy speaks for itself.
    Header { len: usize, client: Option<IpAddr> },
}

/// A PROXY header that breaks its rules.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadHeader(&'static str);

impl fmt::Display for BadHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a PROXY header with {}", self.0)
    }
}

impl std::error::Error for BadHeader {}

/// Reads a PROXY header, if the connection begins with one, and nothing beyond it. Limit the wait with a timeout.
pub(super) async fn read_header(stream: &mut TcpStream) -> io::Result<Option<IpAddr>> {
    let mut buffer = [0; MAX_BINARY];
    let mut seen = 0;
    loop {
        let available = stream.peek(&mut buffer).await?;
        match parse(&buffer[..available]).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
            Parsed::Other => return Ok(None),
            Parsed::Header { len, client } => {
                stream.read_exact(&mut buffer[..len]).await?;
                return Ok(client);
            }
            Parsed::More if available == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Parsed::More => {
                // What was seen stays readable, so there is nothing to wait for but time. Proxies send the header
                // whole.
                if available == seen {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                seen = available;
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Parsed, BadHeader> {
    const TEXT: &[u8] = b"PROXY ";
    if bytes.starts_with(TEXT) {
        return parse_text(bytes);
    }
    if bytes.starts_with(&SIGNATURE) {
        return parse_binary(bytes);
    }
    Ok(if TEXT.starts_with(bytes) || SIGNATURE.starts_with(bytes) { Parsed::More } else { Parsed::Other })
}

/// `PROXY TCP4 client server port port\r\n`, or `PROXY UNKNOWN …\r\n`.
fn parse_text(bytes: &[u8]) -> Result<Parsed, BadHeader> {
    let line = &bytes[..bytes.len().min(MAX_TEXT)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < MAX_TEXT { Ok(Parsed::More) } else { Err(BadHeader("a line that does not end")) };
    };
    let text = std::str::from_utf8(&line[..end]).map_err(|_| BadHeader("a line that is no text"))?;
    let mut words = text.split(' ').skip(1);
    let client = match (words.next(), words.next()) {
        (Some("UNKNOWN"), _) => None,
        (Some("TCP4"), Some(client)) => {
            Some(IpAddr::V4(client.parse::<Ipv4Addr>().map_err(|_| BadHeader("an address that is none"))?))
        }
        (Some("TCP6"), Some(client)) => {
            Some(IpAddr::V6(client.parse::<Ipv6Addr>().map_err(|_| BadHeader("an address that is none"))?))
        }
        _ => return Err(BadHeader("a protocol that is none")),
    };
    Ok(Parsed::Header { len: end + 2, client })
}

/// The signature, a byte of version and command, one of family, the length of the rest, and the addresses.
fn parse_binary(bytes: &[u8]) -> Result<Parsed, BadHeader> {
    let Some(&[version, family, high, low]) = bytes.get(12..16) else { return Ok(Parsed::More) };
    let len = 16 + usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_BINARY {
        return Err(BadHeader("more bytes than are read"));
    }
    let Some(rest) = bytes.get(16..len) else { return Ok(Parsed::More) };
    let client = match (version, family >> 4) {
        // A proxy's own connection, for example to see whether the server lives.
        (0x20, _) | (0x21, 0 | 3) => None,
        (0x21, 1) => {
            let octets = rest.first_chunk::<4>().filter(|_| rest.len() >= 12);
            Some(IpAddr::from(*octets.ok_or(BadHeader("too few bytes for its addresses"))?))
        }
        (0x21, 2) => {
            let octets = rest.first_chunk::<16>().filter(|_| rest.len() >= 36);
            Some(IpAddr::from(*octets.ok_or(BadHeader("too few bytes for its addresses"))?))
        }
        _ => return Err(BadHeader("a version or family that is none")),
    };
    Ok(Parsed::Header { len, client })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        serde_json::from_value(serde_json::json!(texts)).unwrap()
    }

    fn client(connection: &str, lines: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", HeaderValue::from_static(line));
        }
        let trusted = networks(&["10.0.0.0/8", "::1", "2001:db8::/32"]);
        client_of(connection.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_what_a_trusted_proxy_added_counts() {
        assert_eq!(client("192.0.2.1", &["203.0.113.9"]), "192.0.2.1", "no proxy of ours");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(
            client("10.0.0.1", &["1.2.3.4, 203.0.113.9, 10.9.9.9"]),
            "203.0.113.9",
            "the client made up the first"
        );
        assert_eq!(client("10.0.0.1", &["1.2.3.4", "203.0.113.9"]), "203.0.113.9", "lines are one list");
        assert_eq!(client("::ffff:10.0.0.1", &["[2001:db9::7]:443"]), "2001:db9::7");
        assert_eq!(client("10.0.0.1", &["203.0.113.9:1234"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["203.0.113.9, nonsense"]), "10.0.0.1");
    }

    #[test]
    fn what_is_no_network_is_named() {
        let error = serde_json::from_value::<Networks>(serde_json::json!(["10.0.0.0/8", "10.0.0.0/99"])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "server.trusted_proxies: `10.0.0.0/99` is no address and no network such as 10.0.0.0/8"
        );
    }

    #[test]
    fn headers_of_both_versions_are_read_and_others_left_alone() {
        let text = b"PROXY TCP4 203.0.113.9 10.0.0.1 51234 443\r\nGET / HTTP/1.1\r\n";
        assert_eq!(parse(text), Ok(Parsed::Header { len: 43, client: Some("203.0.113.9".parse().unwrap()) }));
        assert_eq!(parse(b"PROXY UNKNOWN\r\n"), Ok(Parsed::Header { len: 15, client: None }));
        let mut binary = SIGNATURE.to_vec();
        binary.extend([0x21, 0x11, 0, 12, 203, 0, 113, 9, 10, 0, 0, 1, 1, 2, 3, 4]);
        assert_eq!(parse(&binary), Ok(Parsed::Header { len: 28, client: Some("203.0.113.9".parse().unwrap()) }));
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/2.0\r\n", b"\x16\x03\x01", b"POST /"] {
            assert_eq!(parse(bytes), Ok(Parsed::Other), "{bytes:?}");
        }
        assert!(parse(b"PROXY TCP4 nonsense 10.0.0.1 1 2\r\n").is_err());
        assert!(parse(&[b"PROXY TCP4 ".as_slice(), &[b'1'; 100]].concat()).is_err());
        binary[14] = 0xff;
        assert!(parse(&binary).is_err(), "too long");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm_and_a_header_never_exceeds_them(
            start in 0usize..3,
            rest in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let begin: &[u8] = [&b""[..], b"PROXY TCP6 ", &SIGNATURE][start];
            let bytes = [begin, &rest].concat();
            if let Ok(Parsed::Header { len, .. }) = parse(&bytes) {
                prop_assert!(len <= bytes.len() && len <= MAX_BINARY);
            }
        }

        #[test]
        fn every_beginning_of_a_header_asks_for_more(len in 0usize..43) {
            let text = b"PROXY TCP4 203.0.113.9 10.0.0.1 51234 443\r\n";
            prop_assert_eq!(parse(&text[..len]), Ok(Parsed::More));
        }
    }

    #[test]
    fn any_bytes_of_a_proxy_header_are_read_or_refused() {
        souk_testkit::fuzz("proxy_header", |bytes| match parse(bytes) {
            Ok(Parsed::Header { len, client }) => {
                assert!(len <= bytes.len() && len <= MAX_BINARY);
                format!(
                    "a header of {}",
                    client.map_or("the proxy", |client| if client.is_ipv4() { "v4" } else { "v6" })
                )
            }
            Ok(other) => format!("{other:?}"),
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn any_bytes_of_forwarded_addresses_name_a_client_or_the_proxy() {
        let trusted = networks(&["10.0.0.0/8", "::1"]);
        souk_testkit::fuzz("x_forwarded_for", |bytes| {
            let values = bytes.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
            let name = axum::http::HeaderName::from_static("x-forwarded-for");
            let headers: HeaderMap = values.map(|value| (name.clone(), value)).collect();
            let client = client_of([10, 0, 0, 1].into(), &headers, &trusted);
            format!("{} {}", client.is_ipv4(), trusted.contain(client))
        });
    }
}
