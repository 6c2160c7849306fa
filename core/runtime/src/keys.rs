//! Keys that vouch for plugins, and signatures in minisign's format.
//!
//! A key is trusted by the place that its file lies in, as everything else is: only root, or the user, can have put
//! it there. The format is that of <https://jedisct1.github.io/minisign/>.

use crate::error::{Kind, Trouble};
use crate::pins::Signer;
use minisign_verify::{PublicKey, Signature};
use palisade_sys::fd::read_all;
use palisade_sys::trust::{TrustError, open_trusted_dir, open_trusted_in};
use std::path::{Path, PathBuf};

/// One public key.
#[derive(Debug)]
struct Key {
    id: String,
    file: PathBuf,
    key: PublicKey,
}

/// All keys that are allowed to vouch.
#[derive(Debug)]
pub(crate) struct Keys {
    keys: Vec<Key>,
    dirs: Vec<PathBuf>,
}

impl Keys {
    /// Reads `*.pub` in these directories.
    ///
    /// # Errors
    /// A directory or a key in it is not trusted, or is no key: leaving it out would ask for less than the user did.
    pub(crate) fn read(dirs: &[PathBuf], owners: &[u32]) -> Result<Self, Trouble> {
        let mut keys = Vec::new();
        for dir in dirs {
            read_dir(dir, owners, &mut keys)?;
        }
        Ok(Self { keys, dirs: dirs.to_vec() })
    }

    /// Whether plugins must be signed.
    pub(crate) fn are_there(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Where keys are looked for, for messages.
    pub(crate) fn places(&self) -> String {
        self.dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ")
    }

    /// The ids of all keys, for messages.
    pub(crate) fn ids(&self) -> String {
        self.keys.iter().map(|key| format!("{} ({})", key.id, key.file.display())).collect::<Vec<_>>().join(", ")
    }

    /// Says which key made this signature of these bytes.
    ///
    /// # Errors
    /// In words: it is no signature, none of the keys made it, or the bytes are not those that were signed.
    pub(crate) fn verify(&self, bytes: &[u8], text: &str) -> Result<Signer, String> {
        let signature = Signature::decode(text).map_err(|e| format!("its signature cannot be read: {e}"))?;
        let id = text.lines().nth(1).and_then(key_id).ok_or("its signature cannot be read")?;
        let mut wrong = None;
        for key in &self.keys {
            match key.key.verify(bytes, &signature, false) {
                Ok(()) => {
                    let (comment, file) = (signature.trusted_comment().to_owned(), key.file.display().to_string());
                    return Ok(Signer { key: key.id.clone(), file, comment });
                }
                Err(minisign_verify::Error::UnexpectedKeyId) => {}
                Err(error) => wrong = Some((key, error)),
            }
        }
        Err(match wrong {
            None => format!("its signature was made with key {id}, which is none of those that may vouch"),
            Some((_, minisign_verify::Error::UnexpectedAlgorithm)) => {
                "its signature is of minisign's legacy format, which is not taken".to_owned()
            }
            Some((key, _)) => {
                format!("its signature is wrong: key {} did not sign these bytes with this comment", key.id)
            }
        })
    }
}

fn read_dir(dir: &Path, owners: &[u32], keys: &mut Vec<Key>) -> Result<(), Trouble> {
    let open = match open_trusted_dir(dir, owners) {
        Ok(open) => open,
        Err(error) if error.is_missing() => return Ok(()),
        Err(error) => return Err(untrusted(dir, &error)),
    };
    let unread = |error: std::io::Error| {
        Trouble::new(Kind::Plugin, format!("the keys in {} cannot be read: {error}", dir.display()))
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unread)? {
        let path = entry.map_err(unread)?.path();
        names.extend(path.extension().is_some_and(|ext| ext == "pub").then_some(path));
    }
    names.sort();
    for path in names {
        let (file, _) = open_trusted_in(&open, &path, owners).map_err(|error| untrusted(&path, &error))?;
        let bytes = read_all(&file).map_err(|e| Trouble::call("a key cannot be read", &e))?;
        let text = String::from_utf8_lossy(&bytes);
        let key = PublicKey::decode(&text).ok().zip(text.lines().nth(1).and_then(key_id));
        let Some((key, id)) = key else {
            return Err(Trouble::new(Kind::Plugin, "a key that should vouch for plugins is none of minisign's")
                .row("file", path.display().to_string())
                .row("help", "put the .pub file there that `minisign -G` wrote, or take this one away"));
        };
        keys.push(Key { id, file: path, key });
    }
    Ok(())
}

fn untrusted(path: &Path, error: &TrustError) -> Trouble {
    Trouble::new(Kind::Plugin, format!("a key that should vouch for plugins is not trusted: {error}"))
        .row("file", path.display().to_string())
        .row("help", error.remedy())
}

/// The id in a line of minisign's: behind two bytes that name the algorithm eight, shown as a number that is stored
/// with its lowest byte first.
fn key_id(line: &str) -> Option<String> {
    let mut bits: u128 = 0;
    // Fourteen letters are ten and a half bytes.
    let letters = line.as_bytes().get(..14)?;
    for letter in letters {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u128::from(value);
    }
    let bytes = (bits >> 4).to_be_bytes();
    let id: [u8; 8] = bytes[8..].try_into().ok()?;
    Some(format!("{:016X}", u64::from_le_bytes(id)))
}

#[cfg(test)]
mod tests {
    use super::key_id;

    /// The key in minisign's own documentation, whose comment tells its id.
    #[test]
    fn the_id_is_the_one_that_minisign_shows() {
        let line = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
        assert_eq!(key_id(line).unwrap(), "E7620F1842B4E81F");
        assert_eq!(key_id("RWQf"), None);
        assert_eq!(key_id("not base64 at all"), None);
    }
}
