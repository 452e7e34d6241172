"""Media that strangers may send, from a seed: containers, boxes, tags and sizes, each file another.

    makers (a family each) ── rng ──▶ bytes that are nearly a file ── now and then spoilt ──▶ HostileFile

Files are made when they are needed: a number and a seed name each of them.
"""
