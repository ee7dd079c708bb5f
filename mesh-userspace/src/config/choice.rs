//! Values chosen from a closed list. One list makes the enum, its spelling in the configuration and the list that
//! an error shows, so that none of the three can drift from the others.

/// Declares an enum whose variants are spelled alike in TOML, JSON and output.
macro_rules! choices {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_meta])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every choice, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The spelling in configuration and output.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl $crate::config::choice::Choice for $name {
            fn all() -> &'static [Self] {
                Self::ALL
            }

            fn text(self) -> &'static str {
                self.as_str()
            }
        }
    };
}

pub(super) use choices;

/// What a reader needs to know about a closed list.
pub(super) trait Choice: Copy + 'static {
    /// Every choice, in the order of the documentation.
    fn all() -> &'static [Self];
    /// The spelling in configuration and output.
    fn text(self) -> &'static str;
}
