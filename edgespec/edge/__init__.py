"""What runs on the device: sessions, the draft, the link to servers, text. No torch."""
