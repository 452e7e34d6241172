"""Soundstage: a generated audio-visual question benchmark.

    scene ─▶ picture, sound ─▶ array cache (training, evaluation) or MP4 (people, demos)
      └────▶ captions, questions (VALOR's and MUSIC-AVQA's annotation formats)

Everything follows from one seed; splits share none.
"""
