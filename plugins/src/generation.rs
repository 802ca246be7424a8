//! Generations of the interface: what was released, by name.

/// The package of all interfaces.
pub(crate) const PACKAGE: &str = "souk:hooks";
/// Versions that were released, the newest last. Each has a folder in `wit/` and a module in `bindings/`.
pub const RELEASED: [&str; 1] = ["0.1.0"];

/// What a hook may import: of each generation the same so far.
pub(crate) const IMPORTS: [&str; 7] = ["types", "log", "config", "variables", "clock", "random", "tokenize"];

/// A name of the form `package/interface@version`, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InterfaceName<'a> {
    pub(crate) package: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) version: Option<&'a str>,
}

impl<'a> InterfaceName<'a> {
    /// `None` where it is the name of no interface.
    pub(crate) fn parse(name: &'a str) -> Option<Self> {
        let (package, rest) = name.split_once('/')?;
        let (interface, version) = match rest.split_once('@') {
            Some((interface, version)) => (interface, Some(version)),
            None => (rest, None),
        };
        Some(Self { package, interface, version })
    }

    /// Whether it is one of ours, whichever version.
    pub(crate) fn is_ours(&self) -> bool {
        self.package == PACKAGE
    }

    /// Whether its version was released.
    pub(crate) fn is_released(&self) -> bool {
        self.version.is_some_and(|version| RELEASED.contains(&version))
    }
}
