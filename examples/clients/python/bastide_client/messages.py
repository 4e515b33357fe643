"""Owns the message classes. They are made from the descriptor sets in `schema/`, which the tests
of the town hold to the `.proto` files: nothing is generated, and no compiler is needed."""

from importlib import resources

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

Message = message.Message

_pool = descriptor_pool.DescriptorPool()


def learn(descriptor_set: bytes) -> None:
    """Adds the messages of an encoded FileDescriptorSet, such as those of a game of one's own."""
    files = {f.name: f for f in descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file}
    known: set[str] = set()

    def add(name: str) -> None:
        if name in known or name not in files:
            return
        known.add(name)
        for dependency in files[name].dependency:
            add(dependency)
        _pool.Add(files[name])

    for name in files:
        add(name)


def message_class(name: str) -> type[Message]:
    """The class of a message, by its full name such as `msg.Login.Req`; KeyError: there is none."""
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(name))


def make(name: str, **fields: object) -> Message:
    """A message with these fields."""
    return message_class(name)(**fields)


for _schema in ("bastide.binpb", "cards.binpb"):
    learn(resources.files(__package__).joinpath("schema", _schema).read_bytes())
