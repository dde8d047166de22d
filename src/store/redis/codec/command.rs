//! Commands on their way to the server, end to end in one buffer that is reused.

/// Encoded commands, and how many replies they will bring.
#[derive(Default)]
pub(in super::super) struct CommandBuffer {
    bytes: Vec<u8>,
    commands: usize,
}

impl CommandBuffer {
    /// Begins a command of `arguments` arguments, its name included; as many calls of
    /// [`argument`](Self::argument) must follow.
    pub(in super::super) fn begin(&mut self, arguments: usize) {
        self.commands += 1;
        append_header(&mut self.bytes, b'*', arguments);
    }

    /// One argument.
    pub(in super::super) fn argument(&mut self, argument: &[u8]) {
        append_argument(&mut self.bytes, argument);
    }

    /// One argument that consists of two parts.
    pub(in super::super) fn argument_of(&mut self, first: &[u8], second: &[u8]) {
        append_header(&mut self.bytes, b'$', first.len() + second.len());
        self.bytes.extend_from_slice(first);
        self.bytes.extend_from_slice(second);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Arguments that were encoded before, with [`append_argument`].
    pub(in super::super) fn encoded(&mut self, arguments: &[u8]) {
        self.bytes.extend_from_slice(arguments);
    }

    /// A whole command.
    pub(in super::super) fn command(&mut self, arguments: &[&[u8]]) {
        self.begin(arguments.len());
        for argument in arguments {
            self.argument(argument);
        }
    }

    /// All commands of `other`, after these.
    pub(in super::super) fn append(&mut self, other: &CommandBuffer) {
        self.bytes.extend_from_slice(&other.bytes);
        self.commands += other.commands;
    }

    /// The commands, encoded.
    pub(in super::super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many commands there are.
    pub(in super::super) fn commands(&self) -> usize {
        self.commands
    }

    /// Forgets the commands and keeps the memory, up to `keep` bytes of it.
    pub(in super::super) fn clear(&mut self, keep: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(keep);
        self.commands = 0;
    }
}

/// Appends one encoded argument to `bytes`.
pub(in super::super) fn append_argument(bytes: &mut Vec<u8>, argument: &[u8]) {
    append_header(bytes, b'$', argument.len());
    bytes.extend_from_slice(argument);
    bytes.extend_from_slice(b"\r\n");
}

fn append_header(bytes: &mut Vec<u8>, kind: u8, length: usize) {
    bytes.push(kind);
    append_decimal(bytes, length);
    bytes.extend_from_slice(b"\r\n");
}

fn append_decimal(bytes: &mut Vec<u8>, number: usize) {
    // Nearly every length is one or two digits long.
    if number < 10 {
        bytes.push(b'0' + number as u8);
    } else if number < 100 {
        bytes.extend_from_slice(&[b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]);
    } else {
        append_decimal(bytes, number / 100);
        let rest = number % 100;
        bytes.extend_from_slice(&[b'0' + (rest / 10) as u8, b'0' + (rest % 10) as u8]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut commands = CommandBuffer::default();

        commands.command(&[b"HSET", b"k\r\n", b""]);
        commands.begin(2);
        commands.argument(b"GET");
        commands.argument_of(b"ab", b"cd");

        assert_eq!(commands.commands(), 2);
        assert_eq!(
            commands.bytes(),
            b"*3\r\n$4\r\nHSET\r\n$3\r\nk\r\n\r\n$0\r\n\r\n*2\r\n$3\r\nGET\r\n$4\r\nabcd\r\n"
        );
    }

    #[test]
    fn lengths_of_every_size() {
        for number in [0, 9, 10, 99, 100, 101, 999, 1000, 65_536, 1_234_567, usize::MAX] {
            let mut bytes = Vec::new();
            append_decimal(&mut bytes, number);
            assert_eq!(String::from_utf8(bytes).unwrap(), number.to_string());
        }
    }
}
