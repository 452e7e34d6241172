"""The learned parts of the link, in torch: transmitters, receivers and the foundation model.

    media ─▶ Transmitter (encoder, pooling, head) ─▶ channel ─▶ Receiver ─▶ Foundation ─▶ answer

Nothing here knows a transport. Legend of shape suffixes used in this room:

    B batch   T tokens of one block   P patches (encoder tokens)   D encoder width
    C channel_dim   E embedding width of the foundation   L language tokens   F frames   S samples
"""
