//! First stage: the function as it is written. What it means is the business of [`crate::valid`].

use proc_macro2::{Group, TokenStream};
use quote::{ToTokens, TokenStreamExt};
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, FnArg, LitStr, Signature, Token, Visibility, token};

/// A function whose body is not looked into.
///
/// The body stays a group of tokens: large suites compile faster for it, and an unfinished line in
/// an editor is an error of the compiler's, at that line, instead of one of this macro's.
pub(crate) struct Function {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    pub(crate) body: Group,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        if !starts_function(input) {
            return Err(input.error("this attribute goes on a function"));
        }
        let signature = input.parse()?;
        if !input.peek(token::Brace) {
            return Err(input.error("expected the body of the function"));
        }
        Ok(Self {
            attributes,
            visibility,
            signature,
            body: input.parse()?,
        })
    }
}

impl Function {
    /// The function alone: of all the attributes on it and on its arguments, only `cfg` is kept.
    pub(crate) fn bare(&self) -> Self {
        let conditions = self
            .attributes
            .iter()
            .filter(|attribute| attribute.path().is_ident("cfg"));
        let mut bare = Self {
            attributes: conditions.cloned().collect(),
            visibility: self.visibility.clone(),
            signature: self.signature.clone(),
            body: self.body.clone(),
        };
        for input in &mut bare.signature.inputs {
            match input {
                FnArg::Typed(argument) => argument.attrs.clear(),
                FnArg::Receiver(receiver) => receiver.attrs.clear(),
            }
        }
        bare
    }
}

impl ToTokens for Function {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.append_all(&self.attributes);
        self.visibility.to_tokens(tokens);
        self.signature.to_tokens(tokens);
        self.body.to_tokens(tokens);
    }
}

/// Whether a signature begins here, going by its qualifiers (`const X` and `unsafe impl` begin like
/// one).
fn starts_function(input: ParseStream<'_>) -> bool {
    let rest = input.fork();
    loop {
        let qualifier = rest
            .parse::<Option<Token![const]>>()
            .is_ok_and(|found| found.is_some())
            || rest
                .parse::<Option<Token![async]>>()
                .is_ok_and(|found| found.is_some())
            || rest
                .parse::<Option<Token![unsafe]>>()
                .is_ok_and(|found| found.is_some())
            || rest
                .parse::<Option<Token![extern]>>()
                .is_ok_and(|found| found.is_some())
            || rest
                .parse::<Option<LitStr>>()
                .is_ok_and(|found| found.is_some());
        if !qualifier {
            return rest.peek(Token![fn]);
        }
    }
}
