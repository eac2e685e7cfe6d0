//! What can outlive everything that was allocated and opened before it.

/// A value that is nothing but its own bytes: it points to nothing, borrows nothing, and owns neither memory nor a
/// descriptor. `Copy + 'static` does not say so much: a `&'static str` may point into memory that was leaked.
///
/// ```compile_fail
/// fn outlives<S: stepdown::sys::Plain>(_: S) {}
/// outlives("a text");
/// ```
///
/// ```
/// fn outlives<S: stepdown::sys::Plain>(_: S) {}
/// outlives((7u64, Some([0u8; 3])));
/// ```
///
/// # Safety
/// All that it is made of is `Plain`. Numbers are; a type of one's own is told by `plain!`, which looks at its parts.
pub unsafe trait Plain: Copy + 'static {}

macro_rules! numbers {
    ($($number:ty),*) => {
        $(
            // SAFETY: a number. That of a descriptor owns none.
            unsafe impl Plain for $number {}
        )*
    };
}
numbers!(bool, u8, u32, u64, i32);

// SAFETY: its parts are all that it is made of.
unsafe impl<T: Plain> Plain for Option<T> {}
// SAFETY: as above.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}
// SAFETY: as above.
unsafe impl<T: Plain, U: Plain> Plain for (T, U) {}

/// Makes a type [`Plain`] whose parts are: all its fields, or its variants, which hold nothing, are named. One that is left
/// out, and one that is not plain, do not compile.
macro_rules! plain {
    ($type:ident { $($field:ident),+ $(,)? }) => {
        $crate::sys::plain!(@ $type, |whole| { let $type { $($field),+ } = whole; $($crate::sys::is_plain($field);)+ });
    };
    ($type:ident($($field:ident),+)) => {
        $crate::sys::plain!(@ $type, |whole| { let $type($($field),+) = whole; $($crate::sys::is_plain($field);)+ });
    };
    (enum $type:ident { $($variant:ident),+ $(,)? }) => {
        $crate::sys::plain!(@ $type, |whole| match whole { $($type::$variant)|+ => {} });
    };
    (@ $type:ident, $parts:expr) => {
        const _: fn($type) = $parts;
        // SAFETY: the pattern above names all that it is made of, and each part is plain.
        #[allow(unsafe_code)]
        unsafe impl $crate::sys::Plain for $type {}
    };
}
pub(crate) use plain;

/// Compiles for a part that is.
#[allow(dead_code, reason = "older compilers don't see its uses, which are in constants without a name")]
pub(crate) const fn is_plain<T: Plain>(_: T) {}
