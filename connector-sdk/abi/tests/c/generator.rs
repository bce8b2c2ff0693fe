//! The C header, made from the source of `tributary-abi`.
//!
//! The crate is plain: constants, `repr(C)` structs and function types, each documented. Anything else in it fails here, so
//! that the header cannot silently lack a part.

use std::fmt::Write;

use syn::{Attribute, Expr, ExprLit, Fields, Item, Lit, Meta, ReturnType, Type};

const TOP: &str = "\
/*
 * The C interface between the Tributary worker and a plugin library.
 *
 * Generated from connector-sdk/abi/src/lib.rs by a test; do not edit.
 * To write it anew: TRIBUTARY_UPDATE=1 cargo test -p tributary-abi --test c
 *
";

const ARROW: &str = "\
/* The Arrow C Data Interface, as Arrow's own headers have it. */
#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE

#define ARROW_FLAG_DICTIONARY_ORDERED 1
#define ARROW_FLAG_NULLABLE 2
#define ARROW_FLAG_MAP_KEYS_SORTED 4

";

/// The header's text from the crate's source.
pub fn generate(source: &str) -> Result<String, String> {
    let file = syn::parse_file(source).map_err(|error| error.to_string())?;
    let mut text = TOP.to_owned();
    for line in docs(&file.attrs) {
        let _ = writeln!(text, "{}", format!(" * {}", plain(&line)).trim_end());
    }
    text.push_str(" */\n#ifndef TRIBUTARY_H\n#define TRIBUTARY_H\n\n#include <stddef.h>\n#include <stdint.h>\n\n");
    text.push_str("#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n");
    let structs: Vec<&syn::ItemStruct> = structs(&file.items).collect();
    text.push_str(ARROW);
    for item in structs.iter().filter(|item| is_arrow(&item.ident.to_string())) {
        write_struct(&mut text, item)?;
    }
    text.push_str("#endif /* ARROW_C_DATA_INTERFACE */\n\n");
    for item in structs.iter().filter(|item| !is_arrow(&item.ident.to_string())) {
        let name = c_name(&item.ident.to_string());
        let _ = writeln!(text, "typedef struct {name} {name};");
    }
    text.push('\n');
    for item in &file.items {
        match item {
            Item::Const(item) => write_const(&mut text, item)?,
            Item::Type(item) => {
                write_docs(&mut text, &item.attrs, "");
                let _ = writeln!(text, "typedef {};\n", declare(&item.ty, &c_name(&item.ident.to_string()))?);
            }
            Item::Struct(item) if is_arrow(&item.ident.to_string()) => {}
            Item::Struct(item) => write_struct(&mut text, item)?,
            // Implementations, the macro below, and `use`.
            Item::Impl(_) | Item::Use(_) | Item::Macro(_) | Item::Fn(_) => {}
            other => return Err(format!("there is no C for this item: {other:?}")),
        }
    }
    text.push_str(
        "/* Whether the struct behind ptr is large enough, by its own size, to hold field. */\n\
         #define TRIBUTARY_COVERS(ptr, type, field) \\\n    \
         ((ptr)->size >= offsetof(type, field) + sizeof(((type *)0)->field))\n\n\
         /* What a plugin library defines: see tributary_plugin_entry. */\n\
         const tributary_plugin *tributary_plugin_v1(const tributary_host *host);\n\n\
         #ifdef __cplusplus\n}\n#endif\n\n#endif /* TRIBUTARY_H */\n",
    );
    Ok(text)
}

/// Rust name, C type and fields of every struct, in order.
pub fn fields(source: &str) -> Result<Vec<(String, String, Vec<String>)>, String> {
    let file = syn::parse_file(source).map_err(|error| error.to_string())?;
    let described = structs(&file.items).map(|item| {
        let rust = item.ident.to_string();
        let c = if is_arrow(&rust) { format!("struct {rust}") } else { c_name(&rust) };
        (rust, c, item.fields.iter().filter_map(|field| field.ident.as_ref()).map(ToString::to_string).collect())
    });
    Ok(described.collect())
}

fn structs(items: &[Item]) -> impl Iterator<Item = &syn::ItemStruct> {
    items.iter().filter_map(|item| match item {
        Item::Struct(item) => Some(item),
        _ => None,
    })
}

fn is_arrow(name: &str) -> bool {
    name.starts_with("Arrow")
}

/// `SourceTaskVtable` → `tributary_source_task_vtable`.
fn c_name(rust: &str) -> String {
    if is_arrow(rust) {
        return rust.to_owned();
    }
    let mut name = "tributary".to_owned();
    for letter in rust.chars() {
        if letter.is_uppercase() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

fn docs(attributes: &[Attribute]) -> Vec<String> {
    let text = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    };
    attributes.iter().filter_map(text).collect()
}

/// Documentation with C's names in place of Rust's links.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("[`") {
        let Some((link, after)) = after.split_once("`]") else { break };
        text.push_str(before);
        let (item, member) = link.split_once("::").map_or((link, None), |(item, member)| (item, Some(member)));
        match item.strip_suffix('!') {
            Some(macro_name) => {
                let _ = write!(text, "TRIBUTARY_{}", macro_name.to_uppercase());
            }
            None if item.chars().any(char::is_lowercase) => text.push_str(&c_name(item)),
            None => {
                let _ = write!(text, "TRIBUTARY_{item}");
            }
        }
        text.extend(member.map(|member| format!(".{member}")));
        rest = after;
    }
    text.push_str(rest);
    if let Some((before, after)) = text.split_once("`size_of::<")
        && let Some((name, after)) = after.split_once(">()`")
    {
        text = format!("{before}sizeof({}){after}", c_name(name));
    }
    text.replace('`', "").replace("*/", "* /")
}

fn write_docs(text: &mut String, attributes: &[Attribute], indent: &str) {
    let lines = docs(attributes);
    match lines.as_slice() {
        [] => {}
        [line] => {
            let _ = writeln!(text, "{indent}/* {} */", plain(line));
        }
        lines => {
            let _ = writeln!(text, "{indent}/*");
            for line in lines {
                let _ = writeln!(text, "{}", format!("{indent} * {}", plain(line)).trim_end());
            }
            let _ = writeln!(text, "{indent} */");
        }
    }
}

fn write_const(text: &mut String, item: &syn::ItemConst) -> Result<(), String> {
    let Expr::Lit(ExprLit { lit, .. }) = &*item.expr else {
        return Err(format!("the constant {} is no literal", item.ident));
    };
    let value = match lit {
        Lit::Int(number) => number.base10_digits().to_owned(),
        Lit::Str(string) => format!("{:?}", string.value()),
        _ => return Err(format!("the constant {} is neither a number nor a text", item.ident)),
    };
    write_docs(text, &item.attrs, "");
    let _ = writeln!(text, "#define TRIBUTARY_{} {value}\n", item.ident);
    Ok(())
}

fn write_struct(text: &mut String, item: &syn::ItemStruct) -> Result<(), String> {
    let Fields::Named(fields) = &item.fields else { return Err(format!("{} has no named fields", item.ident)) };
    write_docs(text, &item.attrs, "");
    let _ = writeln!(text, "struct {} {{", c_name(&item.ident.to_string()));
    for field in &fields.named {
        let name = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
        write_docs(text, &field.attrs, "    ");
        let _ = writeln!(text, "    {};", declare(&field.ty, &name)?);
    }
    text.push_str("};\n\n");
    Ok(())
}

/// A declaration of `name` with the type: C writes functions around the name.
fn declare(ty: &Type, name: &str) -> Result<String, String> {
    match ty {
        Type::Ptr(pointer) => {
            let inner = if let Type::BareFn(_) = &*pointer.elem {
                return Err("a pointer to a function pointer".into());
            } else {
                declare(&pointer.elem, "")?
            };
            let constant = if pointer.const_token.is_some() { "const " } else { "" };
            // `*const *const T` → `const T *const *name`: the constness belongs to what is pointed to.
            let base = inner.trim_end();
            Ok(if base.ends_with('*') && !constant.is_empty() {
                format!("{base}const *{name}")
            } else if base.ends_with('*') {
                format!("{base}*{name}")
            } else {
                format!("{constant}{base} *{name}")
            })
        }
        Type::Path(path) => {
            let last = path.path.segments.last().ok_or("an empty path")?;
            if last.ident == "Option" {
                let syn::PathArguments::AngleBracketed(arguments) = &last.arguments else {
                    return Err("an Option of nothing".into());
                };
                return match arguments.args.first() {
                    Some(syn::GenericArgument::Type(inner)) => declare(inner, name),
                    _ => Err("an Option of no type".into()),
                };
            }
            let base = match last.ident.to_string().as_str() {
                "usize" => "size_t".to_owned(),
                "c_void" => "void".to_owned(),
                "c_char" => "char".to_owned(),
                "u8" => "uint8_t".to_owned(),
                "f64" => "double".to_owned(),
                number @ ("u32" | "u64" | "i32" | "i64") => {
                    format!("{}int{}_t", if number.starts_with('u') { "u" } else { "" }, &number[1..])
                }
                other if is_arrow(other) => format!("struct {other}"),
                other => c_name(other),
            };
            Ok(if name.is_empty() { base } else { format!("{base} {name}") })
        }
        Type::BareFn(function) => {
            let mut arguments = Vec::new();
            for argument in &function.inputs {
                let name = argument.name.as_ref().map(|(name, _)| name.to_string()).unwrap_or_default();
                arguments.push(declare(&argument.ty, &name)?);
            }
            let arguments = if arguments.is_empty() { "void".to_owned() } else { arguments.join(", ") };
            match &function.output {
                ReturnType::Default => Ok(format!("void (*{name})({arguments})")),
                ReturnType::Type(_, ty) => declare(ty, &format!("(*{name})({arguments})")),
            }
        }
        other => Err(format!("there is no C for the type {other:?}")),
    }
}
