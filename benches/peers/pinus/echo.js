// What a client asks of the connector and of the backend alike.
module.exports.default = () => ({ echo: async (msg) => ({ data: msg.data }) });
