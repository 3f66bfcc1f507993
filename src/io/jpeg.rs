//! Whether a JPEG stream is whole: its decoder fills what is missing with grey and says nothing.

const ESCAPE: u8 = 0xff;
const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: u8 = 0xd9;

/// Walks the markers (ITU-T T.81, B.1.1) to the end of the image. Thumbnails, which have an end of
/// their own, lie within segments and are passed over.
pub fn is_whole(stream: &[u8]) -> bool {
    reaches_the_end(stream).unwrap_or(false)
}

fn reaches_the_end(stream: &[u8]) -> Option<bool> {
    let mut at = 0;
    loop {
        // Stuffed zeros, restarts and fill bytes belong to the data between markers.
        at += stream.get(at..)?.iter().position(|&byte| byte == ESCAPE)? + 1;
        match *stream.get(at)? {
            END_OF_IMAGE => return Some(true),
            0x00 | 0x01 | 0xd0..=0xd8 | ESCAPE => {}
            marker => {
                let length = stream.get(at + 1..at + 3)?;
                let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                at += 1 + length;
                // Only a scan's data may hold anything but markers; elsewhere the next one follows.
                if marker != START_OF_SCAN && *stream.get(at)? != ESCAPE {
                    return Some(false);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stream_with_its_end_is_whole() {
        // Start, an application segment that holds a thumbnail's end, a scan with a stuffed zero and a
        // restart, end.
        let whole = [
            0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9, 0xff, 0xda, 0, 3, 1, 7, 0xff, 0,
            8, 0xff, 0xd0, 9, 0xff, 0xd9,
        ];
        assert!(is_whole(&whole));
        assert!(is_whole(&[&whole[..], &[0xff, 0, 1, 2]].concat()));
        for length in 0..whole.len() {
            assert!(!is_whole(&whole[..length]), "{length}");
        }
        // After a segment something else than a marker.
        assert!(!is_whole(&[0xff, 0xd8, 0xff, 0xe1, 0, 3, 1, 7, 0xff, 0xd9]));
    }
}
