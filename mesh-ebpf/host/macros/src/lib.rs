//! `#[map]` and `#[xdp]` where programs run on the host: maps and programs keep their names as symbols, by which a loader
//! finds them, as one of the kernel finds those of an object.

use proc_macro::{TokenStream, TokenTree};

/// A map, under its own name.
#[proc_macro_attribute]
pub fn map(_: TokenStream, item: TokenStream) -> TokenStream {
    exported("", item)
}

/// A program, under its name behind `xdp_`: `clock` is a function of the C library.
#[proc_macro_attribute]
pub fn xdp(_: TokenStream, item: TokenStream) -> TokenStream {
    exported("xdp_", item)
}

/// The item, under a symbol of the name that follows its `static` or `fn`.
fn exported(prefix: &str, item: TokenStream) -> TokenStream {
    let keyword = |token: &TokenTree| matches!(token.to_string().as_str(), "static" | "fn");
    let name = item.clone().into_iter().skip_while(|token| !keyword(token)).nth(1);
    let name = name.map_or_else(String::new, |name| name.to_string());
    let export = format!("#[unsafe(export_name = \"{prefix}{name}\")]").parse::<TokenStream>();
    export.into_iter().flatten().chain(item).collect()
}
