//! Names that are safe in any source text.
//!
//! Layer names come from files and may hold anything: keywords, quotes, ends of comments, other scripts. What a program prints of
//! them is ASCII letters, digits and `_`, so that no name ends a comment or begins one; what tells names apart is a prefix of the
//! program's own, never the layer's name.

/// Characters kept of a name: C99 tells the first 63 of an identifier apart.
const LENGTH: usize = 32;

/// The letters and digits of `name`, with `_` for the others; not more than 32 characters, perhaps none.
pub(crate) fn plain(name: &str) -> String {
    name.chars().take(LENGTH).map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// An identifier that may stand before `_run` in a program: [`plain`], after `net_` where it does not begin with a letter.
pub(crate) fn prefix(name: &str) -> String {
    let plain = plain(name);
    if plain.starts_with(|c: char| c.is_ascii_alphabetic()) { plain } else { format!("net_{plain}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_letters_digits_and_underscores_is_left() {
        assert_eq!(plain("stage1.conv-1"), "stage1_conv_1");
        assert_eq!(plain("*/ int main() {} /* \"größe\n"), "___int_main__________gr__e_");
        assert_eq!(plain(&"a".repeat(100)).len(), LENGTH);
        assert_eq!(plain(""), "");
    }

    #[test]
    fn prefixes_begin_with_a_letter() {
        assert_eq!([prefix("lenet"), prefix("3d"), prefix("_x"), prefix("")], ["lenet", "net_3d", "net__x", "net_"]);
    }
}
